"""What each device file asks of Ray and of the environment; no device is needed for that."""

import os
import subprocess
import sys

import pytest
import torch

from actors.engines import vllm_async, vllm_inprocess
from actors.engines.base import ENGINES
from oapl.config import RunConfig
from oapl.devices import cpu, cuda, npu
from oapl.devices.base import DEVICES, engine_name

ROLES = ("replay", "reward", "worker", "trainer")


def config(device="cuda", degree=1, **cluster):
    return RunConfig(
        rollout={"tensor_parallel_size": degree}, cluster={"device": device, **cluster}
    )


@pytest.mark.parametrize("name", DEVICES.names())
def test_every_device_file_says_what_the_others_say(name):
    device = DEVICES.load(name)
    assert device.TORCH_DEVICE
    assert device.COLLECTIVE_BACKEND in ("gloo", "nccl", "hccl")
    assert device.ENGINE in ENGINES.names()
    assert isinstance(device.HAS_CARDS, bool)
    for role in ROLES:
        asked = device.resources(config(name), role)
        assert set(asked) <= {"num_cpus", "num_gpus", "resources"}
        assert asked["num_cpus"] > 0
        variables = device.environment(config(name), role)
        assert all(isinstance(value, str) for value in variables.values())
        assert variables["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("device", "cards"),
    [(cuda, lambda asked: asked.get("num_gpus")), (npu, lambda asked: asked["resources"]["NPU"])],
)
def test_engines_and_ranks_ask_for_cards_or_parts_of_one(device, cards):
    name = device.TORCH_DEVICE
    assert cards(device.resources(config(name), "worker")) == 1
    assert cards(device.resources(config(name, degree=4), "worker")) == 4
    assert cards(device.resources(config(name, degree=4), "trainer")) == 1
    shared = config(name, devices_per_engine=0.4, devices_per_rank=0.6)
    assert cards(device.resources(shared, "worker")) == 0.4
    assert cards(device.resources(shared, "trainer")) == 0.6
    for role in ("replay", "reward"):
        assert device.resources(config(name), role) == {"num_cpus": 0.05}


def test_threads_come_from_the_configuration():
    some = config("cpu", engine_threads=3, learner_threads=5)
    assert cpu.environment(some, "worker")["OMP_NUM_THREADS"] == "3"
    assert cpu.environment(some, "trainer")["OMP_NUM_THREADS"] == "5"
    assert cpu.environment(some, "reward")["OMP_NUM_THREADS"] == "1"


def test_threads_of_a_rank_do_not_spin_where_there_are_more_of_them_than_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    policy = "OMP_WAIT_POLICY"
    assert policy not in cpu.environment(config("cpu", learner_threads=3), "trainer")
    assert cpu.environment(config("cpu", learner_threads=4), "trainer")[policy] == "PASSIVE"
    assert policy not in cpu.environment(config("cpu", learner_threads=4), "worker")
    assert policy not in cpu.environment(config("cpu", engine_threads=9), "trainer")


SHAPES = """
import resource, torch
torch.set_num_threads(1)
weight = torch.ones(1536, 576, dtype=torch.bfloat16)
def train(tokens):
    states = torch.ones(tokens, 576, dtype=torch.bfloat16)
    found = states @ weight.t()
    found @ weight, found.t() @ states
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
train(1000)
before = peak()
for tokens in range(700, 820):
    train(tokens)
print(peak() - before)
"""


def test_a_learner_rank_keeps_no_matrix_product_of_every_shape_that_it_has_met():
    """Without these variables it is over 300 MiB where oneDNN multiplies (AVX-512 or AMX, bf16)."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN multiplies no bf16 on this processor, so no product of it can be kept")
    variables = os.environ | cpu.environment(config("cpu"), "trainer")
    answer = subprocess.run(
        [sys.executable, "-c", SHAPES], env=variables, capture_output=True, text=True, timeout=600
    )
    assert int(answer.stdout) < 128, answer.stderr


def test_an_npu_engine_keeps_plain_layouts_and_sees_only_its_own_cards():
    worker = npu.environment(config("npu"), "worker")
    assert worker["VLLM_ASCEND_ENABLE_NZ"] == "0"
    assert worker["RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"] == "0"
    trainer = npu.environment(config("npu"), "trainer")
    assert "VLLM_ASCEND_ENABLE_NZ" not in trainer
    assert trainer["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize(("timeout_s", "wait"), [(30, "120"), (600, "600"), (9e5, "7200")])
def test_hccl_waits_as_long_as_the_run_does_within_its_own_limits(timeout_s, wait):
    some = RunConfig(cluster={"device": "npu"}, sync={"timeout_s": float(timeout_s)})
    assert npu.environment(some, "trainer")["HCCL_CONNECT_TIMEOUT"] == wait


def test_the_engine_follows_the_device_unless_it_is_named():
    assert engine_name(config("cpu")) == "vllm_inprocess"
    assert engine_name(config("cuda")) == engine_name(config("npu")) == "vllm_async"
    named = RunConfig(rollout={"engine": "vllm_async"}, cluster={"device": "cpu"})
    assert engine_name(named) == "vllm_async"


def test_an_engine_on_a_part_of_a_card_fills_only_that_part():
    assert vllm_async.memory_fraction(config()) == pytest.approx(0.9)
    assert vllm_async.memory_fraction(config(degree=4)) == pytest.approx(0.9)
    shared = config(devices_per_engine=0.5)
    assert vllm_async.memory_fraction(shared) == pytest.approx(0.45)
    asked = RunConfig(rollout={"engine_options": {"memory_fraction": 0.3}})
    assert vllm_async.memory_fraction(asked) == pytest.approx(0.3)


def test_only_a_cpu_goes_without_compiled_kernels():
    assert vllm_inprocess.environment(config("cpu"))["TORCHDYNAMO_DISABLE"] == "1"
    on_cpu, on_gpu = vllm_async.environment(config("cpu")), vllm_async.environment(config())
    assert on_cpu["TORCHDYNAMO_DISABLE"] == "1"
    assert on_cpu["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "TORCHDYNAMO_DISABLE" not in on_gpu
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in on_gpu
    spread = vllm_async.environment(config("cpu", degree=2))
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in spread

"""Every transport under oapl/weights keeps the same promises."""

import dataclasses
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from oapl import plugins
from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import Probe
from oapl.weights import disk, local, object_store
from oapl.weights.base import check_specs, from_bytes, spec_of, to_bytes

CONFIG = RunConfig()
PROBE = Probe(token_ids=(np.arange(3, dtype=np.int32),), logprobs=(np.zeros(2, np.float32),))


@pytest.fixture
def object_store_in_memory(monkeypatch):
    """Ray's put and get, and its promise that what was put cannot be written."""
    ray = pytest.importorskip("ray")
    objects = {}

    def put(array):
        frozen = array.copy()
        frozen.flags.writeable = False
        objects[len(objects)] = frozen
        return len(objects) - 1

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(ray, "get", lambda ref, timeout: objects[ref])
    return objects


@pytest.fixture(params=plugins.names("oapl.weights"))
def transport(request, object_store_in_memory, tmp_path):
    module = plugins.load("oapl.weights", request.param)
    config = RunConfig(run={"dir": str(tmp_path)})
    sender = module.build_sender(config)
    yield sender, module.build_receiver(config)
    sender.close()


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.randn(7, 5, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "transposed": torch.randn(4, 6, generator=generator).t(),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.randn(2, 2, generator=generator)),
    }


def test_what_arrives_is_bit_for_bit_what_was_sent(transport):
    sender, receiver = transport
    sent = tensors()
    weights = sender.send(3, iter(sent.items()), PROBE)
    received = dict(receiver.receive(weights))
    assert list(received) == list(sent) == [spec.name for spec in weights.specs]
    for name, tensor in sent.items():
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)
    assert weights.version == 3
    assert weights.probe is PROBE
    assert weights.num_bytes == sum(t.numel() * t.element_size() for t in sent.values())


def test_a_publication_is_a_copy(transport):
    sender, receiver = transport
    live = torch.ones(4)
    weights = sender.send(0, iter([("a", live)]), PROBE)
    live.zero_()
    assert dict(receiver.receive(weights))["a"].tolist() == [1.0] * 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_non_finite_tensor_is_refused_by_name(transport, bad, dtype):
    sender, _ = transport
    broken = torch.ones(3, 3, dtype=dtype)
    broken[1, 2] = bad
    with pytest.raises(WeightsError, match=r"version 5: layer\.1 holds non-finite"):
        sender.send(5, iter([("layer.0", torch.ones(2)), ("layer.1", broken)]), PROBE)


def test_the_previous_version_can_still_be_received(transport):
    sender, receiver = transport
    old = sender.send(0, iter([("a", torch.zeros(2))]), PROBE)
    sender.send(1, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(old))["a"].tolist() == [0.0, 0.0]


def test_a_version_that_is_being_read_stays_whole_or_fails_while_newer_ones_come(transport):
    sender, receiver = transport
    names = ("a", "b", "c")
    old = sender.send(1, ((name, torch.full((500,), 1.0)) for name in names), PROBE)
    reading = receiver.receive(old)
    arrived = [next(reading)]
    for version in (2, 3, 4):
        newest = sender.send(
            version, ((name, torch.full((500,), float(version))) for name in names), PROBE
        )
    try:
        arrived += list(reading)
    except WeightsError:
        pass
    else:
        assert len(arrived) == len(names)
    assert all((tensor == 1.0).all() for _, tensor in arrived)
    assert all((tensor == 4.0).all() for _, tensor in receiver.receive(newest))


def test_a_late_joiner_and_two_receivers_at_once_get_the_current_version(transport):
    sender, receiver = transport
    sent = tensors()
    weights = sender.send(2, iter(sent.items()), PROBE)
    assert len(dict(receiver.receive(weights))) == len(sent)
    with ThreadPoolExecutor(2) as pool:
        late = list(pool.map(lambda _: dict(receiver.receive(weights)), range(2)))
    assert all(torch.equal(got[name], sent[name]) for got in late for name in sent)


def test_a_publication_cut_by_an_error_leaves_the_previous_and_the_next_works(transport):
    sender, receiver = transport

    def broken():
        yield "a", torch.ones(500)
        raise RuntimeError("the learner failed here")

    before = sender.send(0, iter([("a", torch.zeros(2))]), PROBE)
    with pytest.raises(RuntimeError, match="failed here"):
        sender.send(1, broken(), PROBE)
    assert dict(receiver.receive(before))["a"].tolist() == [0.0, 0.0]
    after = sender.send(2, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(after))["a"].tolist() == [1.0, 1.0]


def test_a_receiver_that_stops_halfway_does_not_disturb_the_next_publication(transport):
    sender, receiver = transport
    reading = receiver.receive(sender.send(0, iter(tensors().items()), PROBE))
    next(reading)
    reading.close()
    after = sender.send(1, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(after))["a"].tolist() == [1.0, 1.0]


def test_contents_that_changed_on_the_way_are_refused(transport):
    sender, receiver = transport
    weights = sender.send(0, iter(tensors().items()), PROBE)
    with pytest.raises(WeightsError, match="not those that were sent"):
        dict(receiver.receive(dataclasses.replace(weights, digest="0" * 64)))


@pytest.mark.parametrize(
    "change",
    [
        lambda specs: (*specs, specs[0]),
        lambda specs: specs[:-1],
        lambda specs: (specs[1], specs[0], *specs[2:]),
        lambda specs: (dataclasses.replace(specs[0], name="other"), *specs[1:]),
        lambda specs: (dataclasses.replace(specs[0], shape=(5, 7)), *specs[1:]),
    ],
    ids=["one more", "one less", "swapped", "renamed", "reshaped"],
)
def test_another_list_than_the_announced_is_refused(transport, change):
    sender, receiver = transport
    weights = sender.send(0, iter(tensors().items()), PROBE)
    with pytest.raises(WeightsError):
        dict(receiver.receive(dataclasses.replace(weights, specs=change(weights.specs))))


def test_local_forgets_all_but_two_versions():
    sender, receiver = local.Sender(), local.Receiver()
    before = len(local.Sender.store)
    sent = [sender.send(v, iter([("a", torch.zeros(2))]), PROBE) for v in range(5)]
    assert len(local.Sender.store) == before + 2
    with pytest.raises(WeightsError, match="older than the 2 versions kept"):
        dict(receiver.receive(sent[0]))
    sender.close()
    assert len(local.Sender.store) == before


def test_local_senders_do_not_mix():
    first, second = local.Sender(), local.Sender()
    one = first.send(0, iter([("a", torch.zeros(1))]), PROBE)
    second.send(0, iter([("a", torch.ones(1))]), PROBE)
    assert dict(local.Receiver().receive(one))["a"].item() == 0.0
    first.close()
    second.close()


def test_the_object_store_packs_in_aligned_chunks(object_store_in_memory):
    sender = object_store.Sender(chunk_bytes=256)
    sent = {"a": torch.ones(3), "b": torch.ones(5), "large": torch.ones(1000), "c": torch.ones(1)}
    weights = sender.send(0, iter(sent.items()), PROBE)
    assert weights.location.places == ((0, 0, 12), (0, 64, 20), (1, 0, 4000), (2, 0, 4))
    assert len(object_store_in_memory) == 3
    received = dict(object_store.Receiver(timeout_s=5).receive(weights))
    assert all(torch.equal(received[name], tensor) for name, tensor in sent.items())


def test_the_object_store_lets_go_of_old_references(object_store_in_memory):
    sender = object_store.Sender()
    for version in range(4):
        sender.send(version, iter([("a", torch.ones(1))]), PROBE)
    assert [location.chunks for location in sender._kept] == [(2,), (3,)]


def test_disk_keeps_two_versions_whoever_sent_them(tmp_path):
    first = disk.Sender(tmp_path / "weights")
    sent = [first.send(v, iter([("a", torch.zeros(2))]), PROBE) for v in (7, 8)]
    second = disk.Sender(tmp_path / "weights")
    again = second.send(8, iter([("a", torch.ones(2))]), PROBE)
    assert len(list((tmp_path / "weights").iterdir())) == 2
    with pytest.raises(WeightsError, match=r"version 7 is not at .*older than the 2 versions kept"):
        dict(disk.Receiver().receive(sent[0]))
    assert dict(disk.Receiver().receive(sent[1]))["a"].tolist() == [0.0, 0.0]
    assert dict(disk.Receiver().receive(again))["a"].tolist() == [1.0, 1.0]
    first.close()
    second.close()
    assert not (tmp_path / "weights").exists()


KILLED_SENDER = """
import os, signal, sys
from pathlib import Path
import torch
from oapl.weights import disk

def tensors():
    yield "a", torch.ones(100_000)
    os.kill(os.getpid(), signal.SIGKILL)

disk.Sender(Path(sys.argv[1])).send(1, tensors(), None)
"""


def test_disk_never_shows_what_a_killed_sender_left(tmp_path):
    before = disk.Sender(tmp_path).send(0, iter([("a", torch.zeros(2))]), PROBE)
    command = [sys.executable, "-c", KILLED_SENDER, str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".part"]
    assert dict(disk.Receiver().receive(before))["a"].tolist() == [0.0, 0.0]
    after = disk.Sender(tmp_path).send(2, iter([("a", torch.ones(2))]), PROBE)
    assert dict(disk.Receiver().receive(after))["a"].tolist() == [1.0, 1.0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".bin", ".bin"]


@pytest.mark.parametrize(("size", "message"), [(6, "ends within b"), (20, "more than")])
def test_disk_refuses_a_file_of_another_length(tmp_path, size, message):
    sent = {"a": torch.ones(1), "b": torch.ones(2)}
    weights = disk.Sender(tmp_path).send(0, iter(sent.items()), PROBE)
    with open(weights.location, "r+b") as file:
        file.truncate(size)
    with pytest.raises(WeightsError, match=message):
        dict(disk.Receiver().receive(weights))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "weights").write_text("a file in the way")
    with pytest.raises(WeightsError, match=r"version 0 could not be written to .*weights"):
        disk.Sender(tmp_path / "weights").send(0, iter([("a", torch.ones(1))]), PROBE)


def test_receivers_can_be_sent_to_an_engines_process():
    for name in plugins.names("oapl.weights"):
        receiver = plugins.load("oapl.weights", name).build_receiver(CONFIG)
        assert type(pickle.loads(pickle.dumps(receiver))) is type(receiver)


def test_bytes_of_bfloat16_survive_without_a_copy():
    tensor = torch.randn(4, 3).bfloat16()
    view = from_bytes(to_bytes(tensor), spec_of("x", tensor))
    assert torch.equal(view, tensor)
    assert view.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"a": torch.ones(2)}, "b is missing"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, "c is unknown"),
        (
            {"a": torch.ones(2), "b": torch.ones(3, 1)},
            r"b has shape \[3, 1\], the model's",
        ),
        ({"a": torch.ones(2), "b": torch.ones(3).int()}, "b has dtype int32"),
    ],
)
def test_a_publication_of_another_model_is_refused(sent, message):
    sender = local.Sender()
    weights = sender.send(0, iter(sent.items()), PROBE)
    with pytest.raises(WeightsError, match=message):
        check_specs(weights, {"a": (2,), "b": (3,)})
    sender.close()


def test_the_engines_dtype_may_differ_from_the_publications():
    sender = local.Sender()
    weights = sender.send(0, iter([("a", torch.ones(2).bfloat16())]), PROBE)
    check_specs(weights, {"a": (2,)})
    sender.close()

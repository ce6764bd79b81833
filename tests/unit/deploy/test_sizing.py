"""Sizing counts what torch counts, says what to change, and the change is enough."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from actors.engines.base import parameter_shapes
from deploy.checks.preflight import preflight
from deploy.sizing.hardware import GIB, Hardware, parse
from deploy.sizing.learner_memory import activation_bytes, rank_memory
from deploy.sizing.publication import STORE_BYTES, store_bytes
from deploy.sizing.shape import Shape, critic_of, shape_of
from oapl.config import RunConfig
from oapl.config.sections import CheckpointSection
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model

BIG = {  # Qwen3-32B
    "model_type": "qwen3",
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "num_hidden_layers": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 128,
    "max_position_embeddings": 512,
}
TOKENS = 64


def folder_of(path: Path, **config) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return path


def config_of(model: Path, **sections) -> RunConfig:
    return RunConfig(model={"path": str(model), "dtype": "bfloat16"}, **sections)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_parameters_are_counted_as_torch_counts_them(tmp_path, kind, tied):
    from transformers import AutoConfig

    model = folder_of(tmp_path / kind, **SMALL, model_type=kind, tie_word_embeddings=tied)
    made = sum(torch.Size(shape).numel() for shape in parameter_shapes(config_of(model)).values())
    assert shape_of(AutoConfig.from_pretrained(model)).parameters == made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_layer_keeps_the_activations_that_autograd_keeps(kind, dtype):
    from transformers import AutoConfig

    one, two = (
        AutoConfig.for_model(kind, **{**SMALL, "num_hidden_layers": layers}) for layers in (1, 2)
    )
    kept = (saved_bytes(two, dtype) - saved_bytes(one, dtype)) / TOKENS
    assert activation_bytes(shape_of(one), dtype.itemsize) == kept


def saved_bytes(config, dtype) -> int:
    """Bytes of all storages, but for parameters, that a forward pass saves for the backward."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype).train()
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in parameters:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(
            input_ids=torch.zeros(1, TOKENS, dtype=torch.long),
            position_ids=torch.arange(TOKENS)[None],
            attention_mask=None,
            use_cache=False,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


SHAPE = Shape(
    parameters=4_000_000_000,
    layers=1,
    hidden=64,
    intermediate=64,
    vocabulary=64,
    heads=1,
    kv_heads=1,
    head_size=64,
    is_tied=True,
    has_head_norms=False,
)


def test_zero_shares_out_what_its_stage_shards():
    shape = SHAPE
    # bf16 on four ranks, in units of 10^9 bytes: 2 a parameter, 4 a master, 8 its two moments;
    # gradients in fp32 (stage 1), a quarter of them and a bucket of 0.5 numbers in bf16 (2, 3);
    # stage 3 shards the weights too and keeps 1 number gathered.
    for stage, weights, masters, moments, gradients in (
        (0, 8, 16, 32, 8),
        (1, 8, 4, 8, 16),
        (2, 8, 4, 8, 5),
        (3, 4, 4, 8, 5),
    ):
        config = RunConfig(learner={"zero_stage": stage, "num_ranks": 4, "precision": "bf16"})
        parts = rank_memory(config, shape, longest=100).parts
        found = [parts[name] / 1e9 for name in ("weights", "masters", "moments", "gradients")]
        assert found == [weights, masters, moments, gradients], f"stage {stage}"
        # A critic of the same shape has 65 numbers more, the head's. It passes and steps when the
        # policy does not, whose gradients are gone by then, but for what stages 2 and 3 keep.
        both = dataclasses.replace(shape, critic=critic_of(shape))
        with_critic = dict(rank_memory(config, both, longest=100).parts)
        kept = sum(found) - (gradients if stage < 2 else 0)
        assert with_critic.pop("critic") / 1e9 == pytest.approx(kept, rel=1e-6)
        assert parts["critic"] == parts["checkpoint beside"] == 0
        beside = dataclasses.replace(config, checkpoint=CheckpointSection(beside=True))
        copied = rank_memory(beside, shape, longest=100).parts["checkpoint beside"] / 1e9
        assert copied == (48 if stage == 0 else 12), "master and moments of this rank's shard"
        assert with_critic == pytest.approx({k: v for k, v in parts.items() if k != "critic"})


def test_a_critics_states_go_where_the_policys_go():
    shape = dataclasses.replace(SHAPE, critic=critic_of(SHAPE))
    for offload, on_host in (("none", 0), ("optimizer", 16), ("all", 18)):
        learner = {"zero_stage": 3, "num_ranks": 4, "precision": "bf16", "offload": offload}
        config = RunConfig(learner=learner, cluster={"device": "cuda"})
        # A quarter of masters, moments and the gradient of 4 bytes, and of weights of 2, twice.
        host = rank_memory(config, shape, longest=100).host
        assert host / 1e9 == pytest.approx(2 * on_host, rel=1e-6)


def test_frozen_copies_are_written_beside_training_wherever_they_lie():
    learner = {"zero_stage": 3, "num_ranks": 4, "precision": "bf16"}
    for offload, place in (("none", "device"), ("all", "host")):
        config = RunConfig(
            learner={**learner, "offload": offload},
            objective={"name": "grpo", "kl_coefficient": 0.1},
            cluster={"device": "cuda"},
        )
        beside = dataclasses.replace(config, checkpoint=CheckpointSection(beside=True))
        more = rank_memory(beside, SHAPE, longest=100).host
        more -= rank_memory(config, SHAPE, longest=100).host
        # A quarter of masters and two moments, and of the reference's 2 bytes a parameter.
        assert more / 1e9 == pytest.approx(12 + 2, rel=1e-6), f"copies on the {place}"


@pytest.mark.parametrize("tied", [True, False])
def test_a_critic_has_the_parameters_that_torch_counts(tmp_path, tied):
    from learner.models.critic import load_critic

    path = make_model(tmp_path / "model", tied=tied)
    made = load_critic(config_of(path))
    shape = shape_of(made.backbone.config)
    assert critic_of(shape).parameters == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize(
    ("text", "device", "count", "size"),
    [
        ("cuda:8x80GiB", "cuda", 8, 80 * GIB),
        ("npu:64x64GiB", "npu", 64, 64 * GIB),
        ("cpu:2x24GiB", "cpu", 2, 24 * GIB),
        ("cuda:24GB", "cuda", 1, 24 * 10**9),
    ],
)
def test_hardware_is_read(text, device, count, size):
    assert parse(text) == Hardware(device=device, count=count, bytes=size)


@pytest.mark.parametrize("text", ["cuda", "cuda:8", "8x80GiB", "cuda:0x80GiB", "cuda:8x80"])
def test_hardware_written_otherwise_is_refused(text):
    with pytest.raises(InputError, match=r"write it like cuda:8x80GiB"):
        parse(text)


def test_a_device_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match=r"tpu"):
        parse("tpu:8x16GiB")


FITS = [
    "rollout.max_tokens=8192",
    "rollout.context_tokens=10240",
    "rollout.tensor_parallel_size=4",
    "rollout.num_engines=4",
    "learner.num_ranks=32",
    "learner.zero_stage=3",
    "learner.batch_size=256",
    "learner.micro_batch_tokens=16384",
    "learner.activation_checkpointing=true",
]


def sized(tmp_path, hardware: str, *overrides: str, shape=BIG):
    model = folder_of(tmp_path / "model", **shape)
    config = load_config(None, [f"model.path={model}", *overrides])
    return preflight(config, is_dry=True, hardware=parse(hardware))


def test_a_model_of_32b_is_sized_for_a_machine_that_is_not_here(tmp_path):
    made = sized(tmp_path, "npu:64x64GiB", *FITS)
    assert made.facts["parameters"] == "32,762,123,264 by config.json"
    assert made.facts["devices"] == (
        "64 x 64.0 GiB (npu): 32 for 32 learner ranks, 16 for 4 engines, 16 idle "
        "(rollout.num_engines = 8 would use them)"
    )
    assert made.config.cluster.device == "npu"
    assert "tokenizer and data" in made.unchecked[0]
    text = str(made)
    for part in ("weights", "masters", "moments", "gradients", "activations", "KV cache"):
        assert part in text
    assert "65,524,246,528 bytes of bfloat16" in text, "two bytes a parameter"


@pytest.mark.parametrize(
    ("hardware", "overrides", "says"),
    [
        ("cuda:8x80GiB", [], r"take 48 devices, but there are 8; .*learner.num_ranks"),
        ("npu:40x64GiB", [], r"take 48 devices, .*set rollout.num_engines = 2"),
        ("npu:64x64GiB", ["learner.zero_stage=1"], r"a learner rank needs .*zero_stage = 3"),
        (
            "npu:64x64GiB",
            ["rollout.tensor_parallel_size=1"],
            r"no room for one rollout .*rollout.tensor_parallel_size = 2",
        ),
        ("cpu:2x24GiB", ["rollout.tensor_parallel_size=1"], r"more or larger devices"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_setting_to_change(tmp_path, hardware, overrides, says):
    with pytest.raises(InputError, match=says):
        sized(tmp_path, hardware, *FITS, *overrides)


@pytest.mark.parametrize(
    ("hardware", "overrides"),
    [
        ("npu:64x64GiB", ["learner.zero_stage=1"]),
        ("npu:64x64GiB", ["rollout.tensor_parallel_size=1"]),
        ("npu:64x64GiB", ["learner.num_ranks=4"]),
        ("npu:64x64GiB", ["learner.activation_checkpointing=false"]),
        ("npu:40x64GiB", []),
    ],
)
def test_the_setting_to_change_is_enough(tmp_path, hardware, overrides):
    with pytest.raises(InputError) as refused:
        sized(tmp_path, hardware, *FITS, *overrides)
    named = re.findall(r"(?:set|and) ([a-z._]+ = [\w.\"]+)", str(refused.value))
    assert named
    more = [change.replace(" ", "") for change in named]
    sized(tmp_path, hardware, *FITS, *overrides, *more)


def test_a_dry_run_lists_a_model_that_is_not_made_as_not_checked(tmp_path):
    config = load_config(None, ["model.path=not/made", f"run.dir={tmp_path}"])
    made = preflight(config, is_dry=True)
    assert "model.path = 'not/made' is not here" in made.unchecked[0]
    assert "# not checked: model, tokenizer, data and memory" in str(made)
    elsewhere = preflight(config, is_dry=True, hardware=parse("cuda:8x80GiB"))
    assert "# not checked: model" in str(elsewhere)
    with pytest.raises(InputError, match=r"is no folder"):
        preflight(config)


def test_a_dry_run_says_what_fits_on_this_machine_and_refuses_what_does_not(tmp_path):
    make_model(tmp_path / "model")
    base = [
        f"run.dir={tmp_path}",
        f"model.path={tmp_path / 'model'}",
        "data.sources.0.name=sums",
        f"data.sources.0.path={tmp_path / 'sums.jsonl'}",
        "rollout.max_tokens=64",
    ]
    (tmp_path / "sums.jsonl").write_text('{"prompt": "Calculate 3 + 4.", "answer": "7"}\n')
    made = preflight(load_config(None, base), is_dry=True)
    assert re.match(r"at a time 128 of \d+ tokens, or 128 of \d+ ", made.facts["rollouts"])
    assert re.match(r"\d\.\d\d GiB of 1 x ", made.facts["memory"])
    greedy = load_config(None, [*base, "learner.logprob_chunk_tokens=1000000000000"])
    huge = load_config(None, [*base, "rollout.engine_options.kv_cache_bytes=999999999999999"])
    preflight(greedy, is_dry=True)  # no chunk is longer than a micro-batch
    with pytest.raises(InputError, match=r"set rollout.engine_options.kv_cache_bytes = \d+"):
        preflight(huge, is_dry=True)


def test_the_object_store_holds_the_publications_that_are_kept_and_the_next(tmp_path):
    from transformers import AutoConfig

    model = folder_of(tmp_path / "m", **SMALL, model_type="llama", tie_word_embeddings=True)
    shape = shape_of(AutoConfig.from_pretrained(model))
    room = store_bytes(config_of(model), shape) - STORE_BYTES
    assert room == 3 * 2 * shape.parameters
    on_disk = config_of(model, sync={"transport": "disk"})
    assert store_bytes(on_disk, shape) == STORE_BYTES

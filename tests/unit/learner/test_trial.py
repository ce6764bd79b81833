"""Types of model that are right, that leak between the sequences of a row, that add noise."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from learner import probing, trial
from learner.models.policy import load_policy
from oapl.config import RunConfig
from oapl.errors import InputError
from tests.models import tiny


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made: dict[str, Path] = {}

    def folder(model_type: str) -> Path:
        if model_type not in made:
            made[model_type] = tiny.make(model_type, tmp_path_factory.mktemp("model"))
        return made[model_type]

    return folder


def start(path: Path, *, precision: str = "fp32", row_tokens: int = 0, attention: str = "sdpa"):
    """What a rank does with its model first."""
    config = RunConfig(
        model={"path": str(path), "attn_implementation": attention},
        learner={"precision": precision, "row_tokens": row_tokens},
    )
    trial.check(config, load_policy(config), torch.device("cpu"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gpt2", "qwen3_moe"])
def test_types_that_keep_packed_sequences_apart_are_taken(folder_of, model_type, precision):
    start(folder_of(model_type), precision=precision)


@pytest.mark.parametrize(
    ("model_type", "precision", "row_tokens"),
    [
        ("opt", "fp32", 0),
        ("opt", "bf16", 512),
        ("falcon", "fp32", 512),
        ("falcon", "bf16", 0),
        ("minimax", "bf16", 0),
    ],
)
def test_types_that_leak_are_refused_packed_and_taken_alone(
    folder_of, model_type, precision, row_tokens
):
    with pytest.raises(InputError, match=rf"{model_type} model .*nats .*learner.row_tokens = 1"):
        start(folder_of(model_type), precision=precision, row_tokens=row_tokens)
    start(folder_of(model_type), precision=precision, row_tokens=1)


@pytest.mark.parametrize("row_tokens", [0, 1])
def test_noise_of_a_training_mode_is_refused(tmp_path, row_tokens):
    path = tiny.make("mixtral", tmp_path, router_jitter_noise=0.5)
    with pytest.raises(InputError, match=r"mixtral model has something random in training mode"):
        start(path, row_tokens=row_tokens)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {"attention_dropout": 0.5}),
        ("gpt2", {"resid_pdrop": 0.5, "embd_pdrop": 0.5}),
        ("biogpt", {"hidden_dropout_prob": 0.5, "layerdrop": 0.5}),
    ],
)
def test_whatever_is_dropped_at_random_is_switched_off(tmp_path, model_type, settings):
    start(tiny.make(model_type, tmp_path, **settings), row_tokens=1)


@pytest.mark.parametrize("row_tokens", [0, 1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_that_are_no_product_are_refused_whatever_the_key(folder_of, precision, row_tokens):
    with pytest.raises(InputError, match=r"recurrent_gemma model makes more of its logits"):
        start(folder_of("recurrent_gemma"), precision=precision, row_tokens=row_tokens)


def test_a_type_without_the_attention_asked_for_is_named_with_another(folder_of):
    with pytest.raises(InputError, match=r"attn_implementation = 'sdpa'.* bloom .*\"eager\""):
        start(folder_of("bloom"))


def test_a_model_that_answers_nan_is_refused(folder_of):
    config = RunConfig(model={"path": str(folder_of("llama"))}, learner={"precision": "fp32"})
    policy = load_policy(config)
    policy.lm.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="nan nats"):
        trial.check(config, policy, torch.device("cpu"))


class Routed(torch.nn.Module):
    """Eight experts in a list; each token goes to one of them."""

    def __init__(self, expert):
        super().__init__()
        self.experts = torch.nn.ModuleList(copy.deepcopy(expert) for _ in range(8))

    def forward(self, x):
        chosen = (x[..., :3] > 0).long() @ torch.tensor([1, 2, 4])
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if (chosen == number).any():
                out[chosen == number] = expert(x[chosen == number])
        return out


@pytest.mark.parametrize(("stage", "ranks"), [(1, 2), (2, 2), (3, 8), (0, 2), (3, 1)])
def test_parts_that_some_tokens_reach_are_refused_where_ranks_could_differ(folder_of, stage, ranks):
    config = RunConfig(
        model={"path": str(folder_of("llama"))},
        learner={"precision": "fp32", "zero_stage": stage, "num_ranks": ranks},
    )
    policy = load_policy(config)
    trial.check(config, policy, torch.device("cpu"))
    policy.lm.model.layers[1].mlp = Routed(policy.lm.model.layers[1].mlp)
    if not stage or ranks == 1:
        trial.check(config, policy, torch.device("cpu"))
        return
    parts = r"has \d+ parts that only some tokens reach \(lm\.model\.layers\.1\.mlp\.experts\."
    with pytest.raises(InputError, match=rf"{parts}.*set learner\.zero_stage = 0, or"):
        trial.check(config, policy, torch.device("cpu"))
    assert not any(module._forward_pre_hooks for module in policy.modules()), "nothing is left"


def test_experts_that_lie_in_one_tensor_all_take_part(folder_of):
    config = RunConfig(model={"path": str(folder_of("qwen3_moe"))}, learner={"precision": "fp32"})
    assert trial.try_out(load_policy(config), torch.device("cpu")).partial == ()


@pytest.mark.parametrize(("row_tokens", "rows"), [(0, 1), (40, 1), (1, 3)])
def test_a_probe_is_packed_as_updates_are(row_tokens, rows):
    probe = [np.arange(length, dtype=np.int32) for length in (12, 9, 7)]
    (micro_batch,) = probing.packed(probe, 64, row_tokens)
    assert len(micro_batch.token_ids) == rows

"""How long a context a model was made for: what vLLM derives, but for YaRN over a plain length."""

import json
from pathlib import Path

import pytest

from actors.data.context import context_of, context_tokens, engine_overrides
from actors.data.tokenizer import load_model_config
from oapl.config import RunConfig
from oapl.errors import InputError

PLAIN = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA3 = {
    "model_type": "gemma3_text",
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
}
CASES = {
    "plain": ({}, 64),
    "no scaling": ({"rope_scaling": None}, 64),
    "default": ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 64),
    "linear": ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 256),
    "linear, new key": (
        {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}},
        160,
    ),
    "dynamic": ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 128),
    "yarn": ({"rope_scaling": YARN}, 256),
    "yarn, old spelling": ({"rope_scaling": {"type": "yarn", **YARN}}, 256),
    "yarn, new key": ({"rope_parameters": {**YARN, "rope_theta": 1e4}}, 256),
    "yarn, as Qwen3 has it": ({"max_position_embeddings": 80, "rope_scaling": YARN}, 256),
    "yarn, length already stretched": ({"max_position_embeddings": 256, "rope_scaling": YARN}, 256),
    "yarn, no original length": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 256),
    "llama3": ({"max_position_embeddings": 512, "rope_scaling": LLAMA3}, 512),
    "longrope": (
        {
            "max_position_embeddings": 256,
            "rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64}
            | LONG,
        },
        256,
    ),
    "gemma3": (GEMMA3, 64),
}


@pytest.fixture
def model(tmp_path):
    def write(changes: dict) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(PLAIN | changes))
        return tmp_path

    return write


@pytest.mark.parametrize("case", CASES)
def test_a_stretched_context_is_as_long_as_vllm_says(case, model):
    from vllm.config.model import _get_and_verify_max_len
    from vllm.transformers_utils.config import get_config
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    changes, length = CASES[case]
    path = str(model(changes))
    ours = load_model_config(path)
    assert context_of(ours) == length
    overrides = engine_overrides(ours)
    theirs = get_config(path, trust_remote_code=False, hf_overrides_kw=overrides)
    arch = ModelArchConfigConvertorBase(theirs, theirs.get_text_config()).convert()
    assert _get_and_verify_max_len(theirs, arch, None, None, False, None) == length
    assert theirs.rope_parameters == ours.rope_parameters, "engine and learner turn alike"
    assert bool(overrides) == (case.startswith("yarn") and "already" not in case)


def test_the_context_may_be_set_up_to_the_stretched_one(model):
    path = str(model({"rope_scaling": YARN}))

    def tokens(wanted: int) -> int:
        return context_tokens(
            RunConfig(model={"path": path}, rollout={"context_tokens": wanted, "max_tokens": 8})
        )

    assert (tokens(0), tokens(200), tokens(256)) == (256, 200, 256)
    with pytest.raises(InputError, match=r"= 257: the model was made for 256 .*at most 256"):
        tokens(257)

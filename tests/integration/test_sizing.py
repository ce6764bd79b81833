"""What sizing says of a process, beside what the process took: 15 % at most between them."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from actors.data.context import context_tokens
from actors.data.tokenizer import load_model_config
from deploy.sizing.engine_memory import engine_memory
from deploy.sizing.hardware import this_machine
from deploy.sizing.learner_memory import rank_memory
from deploy.sizing.shape import critic_of, lengths_of, shape_of
from tests.support.makers import make_tokenizer
from tests.support.measured import PROMPT, settings

SMOLLM2 = Path("build/smollm2")
TOLERANCE = 0.15


@pytest.fixture(scope="module")
def random_model(tmp_path_factory) -> Path:
    """A Llama of 42 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("40m")
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("random", kind) for kind in ("learner", "engine", "critic")),
        *(("smollm2", kind) for kind in ("learner", "engine")),
    ],
)
def test_memory_is_foretold_within_15_percent(name, kind, random_model):
    model = random_model if name == "random" else SMOLLM2
    if not (model / "model.safetensors").is_file():
        pytest.skip("SmolLM2 is not made; `make smollm2` makes it")
    dtype = "float32" if name == "random" else "bfloat16"
    answer = subprocess.run(
        [sys.executable, "-m", "tests.support.measured", kind, str(model), dtype],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(answer.stdout.splitlines()[-1])
    config = settings(kind, str(model), dtype)
    shape = shape_of(load_model_config(str(model)))
    if kind == "critic":
        shape = dataclasses.replace(shape, critic=critic_of(shape))
    lengths = lengths_of(config, context_tokens(config), PROMPT)
    foretold = (
        engine_memory(config, shape, lengths, this_machine())
        if kind == "engine"
        else rank_memory(config, shape, lengths.longest)
    )
    expected = foretold.total - foretold.parts["libraries"]
    print(f"{kind} of {name}: {expected:,} foretold, {measured:,} measured ({foretold})")
    assert measured == pytest.approx(expected, rel=TOLERANCE)

"""What a run saves beside the weights: whatever lay beside those that it began with."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from learner.export import save_model, try_out
from oapl.errors import InputError
from tests.support.makers import make_model
from tests.support.ranks import config_of

pytestmark = pytest.mark.integration

CODE = """
from transformers import PreTrainedTokenizerFast
from .shouting import shout

class LoudTokenizer(PreTrainedTokenizerFast):
    def decode(self, *args, **kwargs):
        return shout(super().decode(*args, **kwargs))
"""
KEPT = {
    "tokenization_loud.py": CODE,
    "shouting.py": "def shout(text):\n    return text.upper()\n",
    "additional_chat_templates/tools.jinja": "{{ messages }}",
    "LICENSE": "as before",
    "vocab.txt": "a",
}
LEFT = {
    "model.safetensors.index.json": "{}",
    "pytorch_model.bin": "x",
    "weights.gguf": "x",
    "optimizer.pt": "x",
    "adapter_config.json": "{}",
    ".git/HEAD": "x",
    "checkpoint-5/config.json": "{}",
    "checkpoint-5/notes.txt": "x",
    "old/consolidated.00.pth": "x",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A model whose tokenizer has code of its own."""
    path = make_model(tmp_path / "loud")
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": [None, "tokenization_loud.LoudTokenizer"]}}
    write(path, KEPT | LEFT | {"tokenizer_config.json": json.dumps(settings)})
    return path


def saved(path: Path, target: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(path)
    try_out(model, config_of(path))
    save_model(model, target, config_of(path), is_writer=True)
    return target


def test_a_tokenizer_with_code_of_its_own_is_saved_with_it(loud: Path, tmp_path: Path):
    target = saved(loud, tmp_path / "saved")
    there = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    assert set(KEPT) <= there
    assert there & set(LEFT) == set()
    tokenizer = AutoTokenizer.from_pretrained(target, trust_remote_code=True)
    assert tokenizer.decode(tokenizer("abc")["input_ids"]) == "ABC"


def test_a_folder_that_holds_the_run_is_not_copied_into_it(loud: Path):
    write(loud, {"runs/metrics.jsonl": "x"})
    target = saved(loud, loud / "runs" / "saved")
    assert not (target / "runs").exists()
    assert (target / "additional_chat_templates" / "tools.jinja").exists()


def test_what_the_run_wrote_is_not_replaced(loud: Path, tmp_path: Path):
    write(loud, {"config.json": (loud / "config.json").read_text().replace("{", '{"note": 1,', 1)})
    model = AutoModelForCausalLM.from_pretrained(loud)
    model.config.note = 2
    save_model(model, tmp_path / "saved", config_of(loud), is_writer=True)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["note"] == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
        {"do_sample": False, "num_beams": 1, "length_penalty": 2.0},
        {"do_sample": True, "temperature": 0.6, "max_length": 400},
        None,
    ],
)
def test_settings_of_generation_are_saved_as_they_were(settings, tmp_path: Path):
    path = make_model(tmp_path / "model")
    file = path / "generation_config.json"
    file.unlink() if settings is None else file.write_text(json.dumps(settings))
    target = saved(path, tmp_path / "saved")
    found = json.loads((target / "generation_config.json").read_text())
    assert found == settings if settings else found["eos_token_id"] == 2


def test_a_model_that_could_not_be_saved_is_refused_at_the_start(tmp_path: Path):
    path = make_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(path)
    model.config.strange = object()  # no JSON
    with pytest.raises(InputError, match=r"could not be saved \(TypeError.*; mend"):
        try_out(model, config_of(path))

"""Tokenizers and configurations in a process that needs no torch for them."""

import subprocess
import sys

from actors.data.tokenizer import load_model_config, load_tokenizer, spare_torch
from tests.support.makers import make_model

ALONE = """
import os, sys
from actors.data.tokenizer import load_model_config, load_tokenizer, spare_torch
spare_torch()
model = sys.argv[1]
print(load_tokenizer(model).encode("12+7="), load_model_config(model).hidden_size)
assert "torch" not in sys.modules, "a second of the start"
assert "TRANSFORMERS_NO_ADVISORY_WARNINGS" not in os.environ
import torch
assert torch.zeros(1).item() == 0
"""


def test_tokenizer_and_configuration_are_the_same_without_torch(tmp_path):
    model = str(make_model(tmp_path / "model"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, model], capture_output=True, text=True, timeout=300
    )
    here = f"{load_tokenizer(model).encode('12+7=')} {load_model_config(model).hidden_size}\n"
    assert (done.returncode, done.stdout) == (0, here), done.stderr
    assert "PyTorch" not in done.stderr, "no advice about models"


def test_it_leaves_a_process_alone_that_has_torch():
    before = sys.modules["torch"]
    spare_torch()
    assert sys.modules["torch"] is before

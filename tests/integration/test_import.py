"""`oapl import --score`: real vLLM scores given tokens as the learner's model does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from oapl import groups_file
from tests.support.exact import alone_logprobs
from tests.support.makers import make_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def test_scored_logprobs_are_the_learner_s_at_temperature_one(tmp_path):
    path = make_model(tmp_path / "model")
    asked = {"1+1=": ("2", "11, I guess"), "7+" * 150 + "1=": ("9" * 150,)}  # the second near 512
    rows = [
        {"prompt": prompt, "response": response, "reward": float(n == 0), "temperature": 1.0}
        for prompt, responses in asked.items()
        for n, response in enumerate(responses)
    ]
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(logs), "--out", str(tmp_path / "set"), "--model", str(path), "--score"]
    fp32 = ["model.dtype=float32", "cluster.device=cpu"]
    subprocess.run(
        [sys.executable, "-m", "oapl", "import", *words, *fp32], cwd=ROOT, check=True, timeout=600
    )
    header = groups_file.header(tmp_path / "set")
    assert (header.made_by, header.logprobs) == ("import", "scored")
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    groups = list(groups_file.read(tmp_path / "set"))
    assert [len(group.rollouts) for group in groups] == [2, 1]
    for group in groups:
        for rollout in group.rollouts:
            with torch.no_grad():
                expected = alone_logprobs(model, group.prompt.token_ids, rollout.token_ids)
            np.testing.assert_allclose(rollout.inference_logprobs, expected, atol=2e-4)

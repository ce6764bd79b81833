"""Our GRPO and its kin give TRL's losses and gradients, by the record of `make oracle`."""

import json
from pathlib import Path

import pytest
import torch

from oapl.objectives.base import build
from tests.support.losses import inputs

RECORD = json.loads((Path(__file__).parents[2] / "oracle" / "trl_losses.json").read_text())
GIVEN = {name: torch.tensor(values) for name, values in RECORD["given"].items()}
IS_TOKEN = GIVEN["mask"].bool()


def given(logprobs: torch.Tensor):
    """The record's rollouts without their padding."""
    owner = torch.arange(len(IS_TOKEN))[:, None].expand(IS_TOKEN.shape)[IS_TOKEN]
    sampler, advantages = GIVEN["sampler"][IS_TOKEN].tolist(), GIVEN["advantages"].tolist()
    proximal = GIVEN["proximal"][IS_TOKEN]
    return inputs(logprobs, sampler, owner.tolist(), advantages, proximal=proximal)


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: case["name"])
def test_loss_and_gradient_are_trls(case):
    logprobs = GIVEN["policy"][IS_TOKEN].clone().requires_grad_()
    loss = build({"name": "grpo", **case["ours"]}).loss(given(logprobs)).loss
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    theirs = torch.tensor(case["gradient"])[IS_TOKEN].tolist()
    assert logprobs.grad.tolist() == pytest.approx(theirs, abs=1e-6)
    assert max(map(abs, theirs)) > 1e-3


def test_the_cases_are_told_apart():
    losses = {round(case["loss"], 5) for case in RECORD["cases"]}
    assert len(losses) == len(RECORD["cases"])

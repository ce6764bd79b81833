"""Recorded log-probs beside a plain forward pass: figures by hand, and a real tiny model."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from deploy.commands import main
from deploy.commands._align.comparing import compare, plain_scorer
from oapl.errors import InputError
from oapl.groups_file import StoredGroup, Writer
from oapl.records import Prompt, Rollout, Sampling
from tests.support.makers import make_model
from tests.support.storing import HEADER


def group(
    logprobs: list[list[float] | None], version: int = 0, sampling: Sampling | None = None
) -> StoredGroup:
    rollouts = tuple(
        Rollout(
            token_ids=np.arange(5, 5 + (len(one) if one else 2), dtype=np.int32),
            inference_logprobs=None if one is None else np.array(one, np.float32),
            finish_reason="stop",
            text="x",
            first_version=version,
            last_version=version,
        )
        for one in logprobs
    )
    rewards = np.zeros(len(rollouts), np.float32)
    return StoredGroup(
        prompt=Prompt(
            id=f"p{version}",
            text="p",
            token_ids=np.array([1, 7, 9], np.int32),
            verifiers={},
            reference={},
            source="s",
            question="p",
        ),
        version=version,
        sampling=sampling or Sampling(),
        rollouts=rollouts,
        places=tuple(range(len(rollouts))),
        rewards=rewards,
        verdicts=({},) * len(rollouts),
        all_rewards=rewards,
        all_kinds=({},) * len(rollouts),
    )


def zeros(token_ids: np.ndarray, num_prompt: int, temperature: float) -> np.ndarray:
    return np.zeros(len(token_ids) - num_prompt)


def test_the_mean_is_over_tokens_and_told_per_rollout_and_by_tenth():
    found = compare([group([[0.0, -0.5], [-0.25] * 20])], zeros, limit=9)
    a, b = math.exp(0.5), math.exp(0.25)
    assert found.num_tokens == 22
    assert found.ratio == pytest.approx((1 + a + 20 * b) / 22)
    assert found.of_rollouts.tolist() == pytest.approx([(1 + a) / 2, b])
    assert found.of_tenths[0] == pytest.approx((1 + 2 * b) / 3)
    assert found.of_tenths[5] == pytest.approx((a + 2 * b) / 3)
    assert found.of_tenths[9] == pytest.approx(b)
    assert found.largest == 0.5


def test_what_cannot_be_compared_is_counted():
    cut = group([[-1.0]], sampling=Sampling(top_p=0.9))
    found = compare([group([None, [-0.5]]), cut], zeros, limit=9)
    assert (len(found.of_rollouts), found.left_out) == (1, 2)
    with pytest.raises(InputError, match="none of 1 rollouts"):
        compare([cut], zeros, limit=9)


def test_no_more_rollouts_are_scored_than_asked_for():
    assert len(compare([group([[-1.0]] * 4)] * 3, zeros, limit=5).of_rollouts) == 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("align") / "model")


def sampled_by(model, temperature: float) -> StoredGroup:
    """A group whose log-probs are those that the model itself gives, by another way."""
    import torch
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    made = group([[0.0] * 12], sampling=Sampling(temperature=temperature))
    (rollout,) = made.rollouts
    ids = [*made.prompt.token_ids.tolist(), *rollout.token_ids.tolist()]
    logprobs = []
    for place in range(len(made.prompt.token_ids), len(ids)):  # one token after the other
        with torch.no_grad():
            logits = lm(torch.tensor([ids[:place]])).logits[0, -1] / temperature
        logprobs.append(float(logits.log_softmax(-1)[ids[place]]))
    rollout = dataclasses.replace(rollout, inference_logprobs=np.array(logprobs, np.float32))
    return dataclasses.replace(made, rollouts=(rollout,))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_set_of_the_model_itself_is_aligned(model, tmp_path, capsys, temperature):
    with Writer(tmp_path / "set", HEADER) as writer:
        writer.add(sampled_by(model, temperature))
    assert main(["align", str(tmp_path / "set"), "--model", str(model)]) == 0
    out = capsys.readouterr().out
    assert "1 rollouts, 12 tokens, 0 left out" in out
    assert "mean exp(|difference|) 1.0000" in out
    assert "\naligned: the bound is 1.05" in out


def test_a_set_of_another_temperature_or_model_is_not(model, tmp_path, capsys):
    hot = sampled_by(model, 2.0)
    with Writer(tmp_path / "set", HEADER) as writer:
        writer.add(dataclasses.replace(hot, sampling=Sampling(temperature=1.0)))
    assert main(["align", str(tmp_path / "set"), "--model", str(model)]) == 1
    assert "NOT aligned" in capsys.readouterr().out


def test_groups_of_several_versions_are_not_compared_with_one_model(model, tmp_path, capsys):
    with Writer(tmp_path / "rollouts", HEADER) as writer:
        for version in (0, 10):
            writer.add(group([[-1.0]], version))
    words = ["align", str(tmp_path), "--model", str(model)]
    assert main(words) == 2
    assert "versions 0, 10, each sampled by other weights" in capsys.readouterr().err
    assert main([*words, "--version", "7"]) == 2
    assert "--version 7: " in capsys.readouterr().err
    assert main([*words, "--version", "10"]) in (0, 1)


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match="--model"):
        plain_scorer(str(tmp_path / "m"), "float32")

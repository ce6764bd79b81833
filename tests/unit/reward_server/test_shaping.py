"""Penalties for the end and the length of a response."""

import numpy as np
import pytest

from oapl import RunConfig
from oapl.errors import InputError
from reward_server import settings
from tests.support.judging import built, prompt, rollout, server

LENGTH = {"length_penalty": 0.5, "length_free": 10, "length_limit": 30}


def judged(num_tokens=4, *, reason="stop", **options):
    response = rollout("x", reason)
    object.__setattr__(response, "token_ids", np.zeros(num_tokens, np.int32))
    return built("shaping", **options).verify(prompt({}, {"shaping": 1.0}), response)


def test_a_response_without_eos_pays_and_is_marked():
    verdict = judged(reason="length", termination_penalty=0.3)
    assert (verdict.kind, verdict.reward) == ("malformed", -0.3)
    assert verdict.parts == {"termination": -0.3, "length": 0.0, "truncated": 1.0}
    assert judged(termination_penalty=0.3).reward == 0.0


def test_length_costs_nothing_unless_it_is_switched_on():
    assert judged(10**6).reward == 0.0


@pytest.mark.parametrize(
    ("num_tokens", "penalty"), [(0, 0), (10, 0), (20, -0.25), (30, -0.5), (99, -0.5)]
)
def test_the_length_penalty_rises_evenly_between_its_bounds(num_tokens, penalty):
    verdict = judged(num_tokens, **LENGTH)
    assert verdict.reward == verdict.parts["length"] == pytest.approx(penalty)
    assert verdict.kind == ("wrong_answer" if penalty else "accepted")


def test_both_penalties_add_up_and_are_told_apart():
    verdict = judged(30, reason="length", **LENGTH)
    assert verdict.reward == pytest.approx(-0.6)
    assert (verdict.parts["termination"], verdict.parts["length"]) == (-0.1, -0.5)


def test_length_control_without_a_range_is_refused():
    with pytest.raises(InputError, match="length_limit = 0 must be more than length_free = 0"):
        built("shaping", length_penalty=0.5)


def test_switching_length_control_on_warns_before_the_run_starts_and_once():
    for options, count in (({}, 0), (LENGTH, 1)):
        run = {"verifiers": {"shaping": 1.0}, "options": {"shaping": options}}
        notes = settings.notes(RunConfig(reward=run), [])
        assert len(notes) == count
        assert all("accuracy low" in note for note in notes)


async def test_accuracy_format_and_shaping_add_up_by_weight_and_are_logged_apart():
    weights = {"math": 1.0, "format": 0.5, "shaping": 2.0}
    options = {"shaping": {"termination_penalty": 0.25}, "math": {"truncated": "judge"}}
    async with server(weights, options) as judges:
        asked = prompt({"answer": "4"}, weights)
        text = "<think>a</think><answer>4</answer>"
        ended, cut = await judges.score(
            [(asked, rollout(text)), (asked, rollout(text, reason="length"))]
        )
        stats = await judges.stats()
    assert ended.reward == pytest.approx(1.5)
    assert cut.reward == pytest.approx(1.0 - 0.5)
    assert stats["reward/math/mean"] == 1.0
    assert stats["reward/format/strict"] == 1.0
    assert stats["reward/format/mean"] == 0.5
    assert stats["reward/format/malformed_rate"] == 0.5
    assert stats["reward/shaping/termination"] == -0.125
    assert stats["reward/shaping/truncated"] == 0.5

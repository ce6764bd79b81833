"""Each alarm is set off by what a policy made to do that writes, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from oapl.alarms.base import ALARMS, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout

CONFIG = AlarmsSection(window=10)
HEALTHY = Path(__file__).parents[2] / "support" / "healthy_run.json"
SOUND = {
    "reward/mean": 0.5,
    "reward/std": 0.5,
    "reward/uniform_groups": 0.3,
    "reward/uniform_right_groups": 0.2,
    "rollout/repetition_rate": 0.05,
    "rollout/loop_rate": 0.0,
    "rollout/truncated_rate": 0.02,
    "rollout/length_mean": 400.0,
    "policy/entropy": 0.4,
    "policy/prob_ratio": 1.04,
    "policy/policy_kl": 0.002,
    "replay/lag_max": 3.0,
    "weights/probe": 1.004,
}


def line(**changes: float) -> dict[str, float]:
    return {**SOUND, **{name.replace("__", "/"): value for name, value in changes.items()}}


def fall(start: float, end: float, count: int) -> list[float]:
    return [float(value) for value in np.linspace(start, end, count)]


def repeating() -> list[dict[str, float]]:
    """More and more of each response is the same few words."""
    return [line(rollout__repetition_rate=rate) for rate in fall(0.05, 0.9, 40)]


def looping() -> list[dict[str, float]]:
    """Correct, and then empty tags without end."""
    return [line(rollout__loop_rate=rate) for rate in fall(0.0, 0.9, 40)]


def endless() -> list[dict[str, float]]:
    """Never ends: all is cut off in the end, and so nothing is right."""
    cut = fall(0.02, 1.0, 40)
    return [line(rollout__truncated_rate=c, reward__mean=0.6 * (1 - c)) for c in cut]


def sure() -> list[dict[str, float]]:
    """Says the same answer to each question, right for half of them."""
    return [
        line(policy__entropy=e, reward__uniform_groups=0.9, reward__uniform_right_groups=0.45)
        for e in [*fall(0.4, 0.001, 40), *[0.001] * 20]
    ]


def short() -> list[dict[str, float]]:
    """A penalty on length is cheaper to avoid than a question to answer."""
    return [line(rollout__length_mean=tokens) for tokens in fall(400.0, 20.0, 40)]


def hopeless() -> list[dict[str, float]]:
    """Every answer to every question is wrong."""
    return [
        line(reward__uniform_groups=u, reward__uniform_right_groups=0.0, reward__mean=1 - u)
        for u in [*fall(0.5, 1.0, 40), *[1.0] * 10]
    ]


def running_away() -> list[dict[str, float]]:
    """Off-policy updates that nothing holds back."""
    return [line(policy__policy_kl=kl) for kl in fall(0.002, 5.0, 40)]


def leaping() -> list[dict[str, float]]:
    """One step too far."""
    return [*[SOUND] * 30, line(policy__policy_kl=0.5)]


def misloaded() -> list[dict[str, float]]:
    """Engines that serve a packed copy of an output layer of before."""
    return [SOUND, *[line(weights__probe=1.2)] * 3]


def misscored() -> list[dict[str, float]]:
    """A learner that scores other tokens than were sampled, on rollouts of its own weights."""
    return [SOUND, *[line(policy__prob_ratio=1.3, replay__lag_max=0.0)] * 3]


MADE_TO = [
    ("repetition", repeating),
    ("repetition", looping),
    ("endings", endless),
    ("entropy", sure),
    ("length", short),
    ("uniform", hopeless),
    ("ratio", running_away),
    ("ratio", leaping),
    ("alignment", misloaded),
    ("alignment", misscored),
]


def told(name: str, lines: list[dict[str, float]], config: AlarmsSection = CONFIG) -> list[str]:
    """What the alarm says of each line."""
    alarm = ALARMS.load(name).build(config)
    return [alarm.see(one) for one in lines]


@pytest.mark.parametrize(
    ("name", "lines"), MADE_TO, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_policy_made_to_do_that_sets_its_alarm_off(name, lines):
    said = told(name, lines())
    assert not said[0], "it has done nothing yet"
    assert said[-1], "and is on at the end"
    assert not any(told(name, [SOUND] * 60))


@pytest.mark.parametrize(
    ("name", "lines"), MADE_TO, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_threshold_of_0_switches_its_alarm_off(name, lines):
    assert not any(told(name, lines(), AlarmsSection(window=10, **{name: 0.0})))


def test_every_alarm_has_a_policy_that_sets_it_off_and_a_threshold_of_its_name():
    assert {name for name, _ in MADE_TO} == set(ALARMS.names())
    assert set(ALARMS.names()) <= set(AlarmsSection.__dataclass_fields__)


@pytest.mark.parametrize("name", ALARMS.names())
def test_no_alarm_goes_off_in_a_run_that_learns(name):
    """Figures of the 200 steps of a quickstart: the reward goes from 0.58 to 0.95, the entropy to a
    fourteenth. The share of groups that are all right is the least that goes with the others."""
    recorded = json.loads(HEALTHY.read_text())
    lines = [dict(zip(recorded["names"], row, strict=True)) for row in recorded["rows"]]
    assert len(lines) == 200
    assert [text for text in told(name, lines, AlarmsSection()) if text] == []


def learning(entropy_to: float, reward_to: float, right_to: float) -> list[dict[str, float]]:
    entropy, reward = fall(0.4, entropy_to, 60), fall(0.2, reward_to, 60)
    right = fall(0.1, right_to, 60)
    return [
        line(policy__entropy=e, reward__mean=r, reward__uniform_right_groups=u)
        for e, r, u in zip(entropy, reward, right, strict=True)
    ]


def test_a_policy_that_becomes_surer_as_it_gets_better_is_no_alarm():
    assert not any(told("entropy", learning(0.001, 0.6, 0.4)))


def test_entropy_that_fell_is_an_alarm_once_the_reward_stands_still_unless_most_is_right():
    stands = line(policy__entropy=0.001, reward__mean=0.6, reward__uniform_right_groups=0.4)
    assert told("entropy", [*learning(0.001, 0.6, 0.4), *[stands] * 25])[-1]
    solved = line(policy__entropy=0.001, reward__mean=0.95, reward__uniform_right_groups=0.9)
    assert not any(told("entropy", [*learning(0.001, 0.95, 0.9), *[solved] * 25]))


def test_longer_answers_that_are_cut_off_more_often_and_pay_are_no_alarm():
    cut = fall(0.02, 0.5, 40)
    lines = [line(rollout__truncated_rate=c, reward__mean=0.3 + c) for c in cut]
    assert not any(told("endings", lines))


def test_answers_that_become_shorter_and_better_are_no_alarm():
    lines = [
        line(rollout__length_mean=tokens, reward__mean=0.9 - tokens / 1000)
        for tokens in fall(400.0, 20.0, 40)
    ]
    assert not any(told("length", lines))


def test_groups_that_are_all_right_are_no_alarm():
    lines = [line(reward__uniform_groups=1.0, reward__uniform_right_groups=0.99)] * 40
    assert not any(told("uniform", lines))


def test_a_kl_that_grows_step_by_step_with_the_lag_is_no_alarm():
    period = [line(policy__policy_kl=1e-5 * lag**2) for lag in range(1, 51)]
    assert not any(told("ratio", period * 4))


def test_what_was_not_measured_is_passed_over():
    for name in ALARMS.names():
        assert not any(told(name, [{}, {"reward/mean": float("nan")}, {"loss/total": 1.0}] * 20))


def test_a_window_knows_first_last_before_and_the_extremes():
    window = Window("x", 2)
    known = [window.add({"x": float(value)}) for value in (1, 3, 5, 9)]
    assert known == [False, True, True, True]
    assert (window.first, window.last, window.before) == (2.0, 7.0, 2.0)
    window.add({"x": 0.0})
    assert (window.last, window.before) == (4.5, 4.0)
    assert (window.lowest, window.highest) == (2.0, 7.0)


def rollout(tokens: list[int], logprob: float = -1.0, finish: str = "stop") -> Rollout:
    return Rollout(
        token_ids=np.array(tokens, np.int32),
        inference_logprobs=np.full(len(tokens), logprob, np.float32),
        finish_reason=finish,  # type: ignore[arg-type]
        text="",
        first_version=0,
        last_version=0,
    )


PLAIN, LONG = rollout(list(range(20))), rollout(list(range(90)))
CIRCLES, SHORT = rollout([1, 2] * 20), rollout([7])
CUT, SURE, STRANGE = (
    rollout([*range(50)], finish="length"),
    rollout([1] * 3, -0.01),
    rollout([2], -9),
)
SHOWN = {
    "repetition": CIRCLES,
    "endings": CUT,
    "entropy": SURE,
    "length": SHORT,
    "uniform": LONG,
    "ratio": STRANGE,
    "alignment": LONG,
}


@pytest.mark.parametrize("name", ALARMS.names())
def test_the_rollout_that_shows_it_best_is_found(name):
    shows = ALARMS.load(name).shows
    made = (PLAIN, LONG, CIRCLES, SHORT, CUT, SURE, STRANGE)
    assert max(made, key=shows) is SHOWN[name]

"""Alarms at work: told once, kept with a rollout, acted upon, and remembered by a run that goes
on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from learner.alarming import Alarming
from oapl.config import RunConfig
from oapl.objectives.base import build
from tests.support.makers import make_groups

SOUND = {"rollout/repetition_rate": 0.1}
BAD = {"rollout/repetition_rate": 0.9}


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.alerts: list[tuple[str, str]] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def alert(self, title: str, text: str) -> None:
        self.alerts.append((title, text))


@pytest.fixture
def config(tmp_path) -> RunConfig:
    run = RunConfig(
        run={"name": "r", "dir": str(tmp_path)},  # type: ignore[arg-type]
        alarms={"window": 2, "actions": {"repetition": "stop"}},  # type: ignore[arg-type]
    )
    run.folder.mkdir()
    return run


def groups() -> list[Any]:
    return make_groups(build({"name": "oapl"}), num_groups=2, group_size=4)


def test_an_alarm_is_told_once_with_a_rollout_that_shows_it_and_does_what_it_shall(config):
    told, done = Told(), []
    alarms = Alarming(config, told, {"stop": done.append})  # type: ignore[arg-type]
    on = [
        alarms.saw(step, line, groups())["alarms/repetition"]
        for step, line in enumerate((SOUND, SOUND, BAD, BAD, BAD, BAD), 1)
    ]
    assert on == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    (text,) = told.lines
    assert text.startswith("alarm repetition at step 4: 90% of the 4-grams of a response")
    assert text.endswith(
        "a rollout that shows it: alarms/step-4-repetition.json; alarms.actions: stop"
    )
    assert told.alerts == [
        ("alarm repetition", text.partition("; ")[0].partition("repetition at ")[2])
    ]
    assert done == ["alarm repetition"]
    kept = json.loads((config.folder / "alarms" / "step-4-repetition.json").read_text())
    assert kept["step"] == 4
    assert {"id", "prompt", "response", "reward", "verdicts"} <= set(kept["rollout"])


def test_it_is_told_again_only_after_it_was_off_for_a_window(config):
    told = Told()
    alarms = Alarming(config, told, {"stop": lambda _: None})  # type: ignore[arg-type]
    rates = (0.9, 0.9, 0.05, 0.99, 0.99, 0.1, 0.1, 0.1, 0.9, 0.9)  # off at 3, and from 7 to 9
    for step, rate in enumerate(rates, 1):
        alarms.saw(step, {"rollout/repetition_rate": rate}, ())
    assert [text.split(":")[0] for text in told.lines] == [
        "alarm repetition at step 2",
        "alarm repetition at step 10",
    ]


def test_a_run_that_goes_on_knows_what_was_told(config):
    told = Told()
    acts = {"stop": lambda _: None}
    alarms = Alarming(config, told, acts, [BAD, BAD, BAD])  # type: ignore[arg-type]
    assert alarms.saw(4, BAD, ())["alarms/repetition"] == 1.0
    assert told.lines == []


def test_every_alarm_has_its_metric_in_every_line(config):
    found = Alarming(config, Told(), {}).saw(1, {}, ())  # type: ignore[arg-type]
    assert set(found) == {
        f"alarms/{name}"
        for name in (
            *("alignment", "endings", "entropy", "length", "ratio", "repetition", "uniform"),
        )
    }
    assert set(found.values()) == {0.0}

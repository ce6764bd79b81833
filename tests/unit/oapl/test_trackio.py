"""The trackio sink, with a stand-in for the package; `tests/boards` has the real one."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import pytest

from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.records import StepMetrics
from oapl.tracking import trackio_sink


class FakeRun:
    """A run of trackio's; fails when it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.alerts: list[tuple[str, str, str]] = []
        self.is_finished = False

    def log(self, metrics: dict[str, float], step: int) -> None:
        print("* noise")
        if self.error:
            raise self.error
        self.logged.append((step, metrics))

    def alert(self, title: str, text: str, level: str) -> None:
        self.alerts.append((title, text, level))

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    made, module = FakeRun(), ModuleType("trackio")

    def init(**settings: Any) -> FakeRun:
        print("* Trackio project initialized")
        made.settings = settings  # type: ignore[attr-defined]
        return made

    module.init = init  # type: ignore[attr-defined]
    module.AlertLevel = type("AlertLevel", (), {"WARN": "warn"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return made


def started(told: list[str]) -> trackio_sink.TrackioSink:
    config = RunConfig(run={"name": "mine"}, tracking={"wandb_project": "team"})  # type: ignore[arg-type]
    sink = trackio_sink.start(config, told.append)
    assert sink is not None
    return sink


def test_what_is_finite_is_logged_under_its_step_without_a_word_on_the_screen(run, capsys):
    told: list[str] = []
    sink = started(told)
    sink.log(StepMetrics(step=3, values={"reward/mean": 0.5, "loss/total": math.nan}))
    sink.alert("alarm entropy", "step 3: it fell")
    sink.close()
    assert run.logged == [(3, {"reward/mean": 0.5})]
    assert run.alerts == [("alarm entropy", "step 3: it fell", "warn")]
    assert run.is_finished
    assert (run.settings["project"], run.settings["name"]) == ("team", "mine")
    assert run.settings["resume"] == "allow", "a run that goes on is the same one"
    assert run.settings["config"]["run"]["name"] == "mine"
    assert capsys.readouterr().out == ""
    assert told == ["trackio keeps the run; see it with: trackio show --project team"]


def test_a_trackio_that_fails_is_told_once_and_left_out(run):
    told: list[str] = []
    sink = started(told)
    run.error = OSError("database is locked\nand more")
    for step in (1, 2):
        sink.log(StepMetrics(step=step, values={"reward/mean": 0.5}))
    sink.close()
    assert told[1:] == [
        "trackio failed: OSError: database is locked; going on without it: metrics.jsonl has "
        "everything"
    ]
    assert not run.is_finished


def test_a_trackio_that_does_not_start_is_told(run, monkeypatch):
    def broken(**settings: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(sys.modules["trackio"], "init", broken)
    told: list[str] = []
    assert trackio_sink.start(RunConfig(), told.append) is None
    assert told == ["trackio did not start: RuntimeError: no room"]


def test_a_trackio_that_is_not_installed_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=r"pip install 'oapl\[trackio\]'"):
        trackio_sink.start(RunConfig(), print)

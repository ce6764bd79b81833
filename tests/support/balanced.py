"""The accounts of a run that nothing happened to: all that was made is somewhere, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.alarming import FOLDER
from oapl.reports._study.run import Run
from oapl.reports.balance import balance_of

SHARE = 0.02
"""Of the wall time, by which states of learner and engines may miss it."""


def check(folder: Path) -> None:
    """Add up a run's lines: draws, rollouts, tokens and seconds; and no alarm was on.

    Args:
        folder: Of a run with one engine, whose prompts were each drawn once.

    Raises:
        AssertionError: Something is missing, twice there, or was told.
    """
    run = Run(folder)
    found = balance_of(run)
    assert found.trained == found.steps_took, found
    assert not any((found.dropped, found.failed, found.waiting, found.in_flight)), found
    for kind in ("rollouts", "tokens"):
        made, kept = run.total(f"rollout/{kind}"), run.total(f"replay/accepted_{kind}")
        evaluated = run.total("rollout/evaluated" + ("_tokens" if kind == "tokens" else ""))
        lost = found.cleared + found.refused if kind == "tokens" else 0.0
        assert made == kept + evaluated + lost > 0, (kind, made, kept, evaluated, lost)
    whole = 3600 * run.curve("total/hours").last
    for side in ("learner", "engines"):
        told = sum(run.total(name) for name in run.names if name.startswith(f"seconds/{side}/"))
        assert told == pytest.approx(whole, rel=SHARE), side
    steps = run.total("time/step_s")
    assert 0 < steps < whole * (1 + SHARE), "learner steps are a part of it"
    on = [name for name in run.names if name.startswith("alarms/") and run.total(name)]
    assert not on, f"alarms {on}"
    assert any(name.startswith("alarms/") for name in run.names), "nobody looked"
    assert not (folder / FOLDER).exists(), "an alarm has kept a rollout"

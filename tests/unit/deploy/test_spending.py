"""The last lines of a run: where its time went."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.run import spending
from deploy.run.outcome import RunOutcome
from deploy.run.summary import report
from oapl.tracking.status import STOPPED_AT


def write(path: Path, *rows: dict[str, float]) -> None:
    path.write_text("".join(json.dumps({"step": 1, "time/unix_s": 1.0, **r}) + "\n" for r in rows))


def learner(**seconds: float) -> dict[str, float]:
    return {f"seconds/learner/{state}": value for state, value in seconds.items()}


def a_run(folder: Path) -> Path:
    engines = {"seconds/engines/generate": 300.0, "seconds/engines/thrown_away": 100.0}
    write(
        folder / "metrics.jsonl",
        {**learner(start=20.0, update=60.0, data=9.9, other=0.1), **engines},
        {"eval/s/mean@8": 0.5},
        learner(update=90.0, finish=10.0),
    )
    write(folder / "metrics.after-step-1.jsonl", learner(update=10.0))
    return folder


def test_the_shares_of_both_sides_and_what_was_lost_are_told_with_what_was_made_in_vain(tmp_path):
    first, second, third = spending.told(a_run(tmp_path))
    assert first == ("learner, 0:03:20: update 80.0%, start 10.0%, finish 5.0%, data 5.0%"), (
        "what is hardly anything is left out"
    )
    assert second == "engines, 0:06:40 together: generate 75.0%, thrown away 25.0%"
    assert third == "effective training time 85.0% (lost: start 20 s, work made again 10 s)"


def test_a_run_without_accounts_has_no_such_lines(tmp_path):
    write(tmp_path / "metrics.jsonl", {"eval/s/mean@8": 0.5})
    assert list(spending.told(tmp_path)) == []
    assert list(spending.told(tmp_path / "nothing")) == []


def test_every_run_ends_with_them_one_that_was_stopped_too(tmp_path, capsys):
    for signal in (0, 2):
        report(RunOutcome(folder=a_run(tmp_path), step=3, signal=signal, ended="run.max_steps"))
        out = capsys.readouterr().out
        assert "effective training time 85.0%" in out
        assert not signal or out.splitlines()[-1].startswith(STOPPED_AT)

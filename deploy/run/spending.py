"""Where a run's time went, in three lines at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from oapl import accounting
from oapl.tracking import history
from oapl.tracking.drawing import duration

LEAST_SHARE = 0.005
"""What is less is not listed."""


def told(folder: Path) -> Iterator[str]:
    """Tell where the seconds of learner and engines went, and the share that was training.

    Args:
        folder: The run's.

    Yields:
        Nothing of a run whose lines have no seconds.
    """
    made = accounting.account(history.rows(folder), history.lost_rows(folder))
    if not made.wall_s:
        return
    yield f"learner, {duration(made.wall_s)}: {_shares(made.learner)}"
    if made.engines:
        total = sum(made.engines.values())
        yield f"engines, {duration(total)} together: {_shares(made.engines)}"
    lost = {
        "start": made.learner.get(accounting.START, 0.0),
        "restarts": made.learner.get(accounting.RESTART, 0.0),
        "work made again": made.redone_s,
        "waits on faults": made.on_faults_s,
    }
    causes = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in lost.items() if seconds)
    yield f"effective training time {made.ettr:.1%} (lost: {causes or 'nothing'})"


def _shares(seconds: Mapping[str, float]) -> str:
    """The states by their shares, the largest first."""
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: -item[1])
    named = ((state.replace("_", " "), passed / total) for state, passed in ranked)
    return ", ".join(f"{state} {share:.1%}" for state, share in named if share >= LEAST_SHARE)

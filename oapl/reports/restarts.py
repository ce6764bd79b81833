"""What was started again: when, why, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oapl.accounting import LEARNER, RESTART, account
from oapl.reports._drawing.texts import DASH, Cell, Table, words
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing
from oapl.reports.setup import duration
from oapl.tracking import history, restarts
from oapl.tracking.lines import CLOCK, Row
from oapl.tracking.names import STEP
from oapl.tracking.restarts import Restart

DECLARES = About(
    title="What was started again, and why",
    section="accounting",
    place=15,
    reads="A worker or a reward server is replaced alone. For a rank, a node or the replay buffer "
    "all goes back to the last checkpoint: that costs the restart, and the steps made again.",
)
COLUMNS = ("after", "learner step", "what", "why", "cost")
MOST = 60
LONGEST = 200
"""Characters of a cause."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found = [(run, [*restarts.read(run.folder)]) for run in study.runs]
    if not any(ones for _, ones in found):
        return Absent("nothing was started again in these runs")
    several = len(study.runs) > 1
    rows = [
        ((words(run.name),) if several else ()) + row
        for run, ones in found
        for row in _rows(run, ones)
    ]
    columns = ("run", *COLUMNS) if several else COLUMNS
    notes = [_note(run, ones, len(study.runs) > 1) for run, ones in found if ones]
    more = [f"The first {MOST} of {len(rows)} are shown."] if len(rows) > MOST else []
    return Table(columns=columns, rows=tuple(rows[:MOST]), note="\n".join([*notes, *more]))


def _rows(run: Run, ones: Sequence[Restart]) -> Iterator[tuple[Cell, ...]]:
    lost = [*history.lost_rows(run.folder)]
    since = 0.0  # when all went back last: lines before that are of another attempt
    for one in ones:
        passed_s = max(one.at_unix_s - run.began, 0.0)
        step = max(
            (row[STEP] for row in (*run.lines, *lost) if _at(row) <= one.at_unix_s), default=0
        )
        cause = one.cause if len(one.cause) <= LONGEST else f"{one.cause[: LONGEST - 1]}…"
        cost = _cost(run, lost, one, since) if one.is_of_all else DASH
        what = f"all, for the {one.part}" if one.is_of_all else one.part
        since = one.at_unix_s if one.is_of_all else since
        yield (
            Cell(text=duration(passed_s), key=passed_s),
            Cell(text=f"{step:,}", key=step),
            *map(words, (what, cause, cost)),
        )


def _cost(run: Run, lost: Sequence[Row], one: Restart, since: float) -> str:
    """Its own time, in the first line after it; and that of the lines it has set aside."""
    name = f"{LEARNER}{RESTART}"
    again = (row for row in (*lost, *run.lines) if _at(row) > one.at_unix_s and row.get(name))
    first = min(again, key=_at, default=None)
    told = [f"{duration(first[name])} to start"] if first else []
    redone = [row for row in lost if since < _at(row) <= one.at_unix_s]
    if redone:
        seconds = account((), redone).redone_s
        told.append(f"{len(redone)} steps again ({duration(seconds)})")
    return ", ".join(told) or DASH


def _note(run: Run, ones: Sequence[Restart], is_one_of_several: bool) -> str:
    spent = account(run.lines, history.lost_rows(run.folder))
    head = f"{run.name}: " if is_one_of_several else ""
    started_s = spent.learner.get(RESTART, 0.0)
    return (
        f"{head}{len(ones)} in all; starts after them took {duration(started_s)}, steps made again "
        f"{duration(spent.redone_s)}, waits for what was replaced alone "
        f"{duration(spent.on_faults_s)}; effective training time {spent.ettr:.1%}."
    )


def _at(row: Row) -> float:
    return float(row.get(CLOCK) or 0.0)

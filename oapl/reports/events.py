"""Faults, restarts, resets, evaluations, checkpoints and stages on the axis of wall time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from oapl.reports._drawing.panels import Lane, Lanes, Mark, Panel
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels
from oapl.tracking.lines import CLOCK, Row

DECLARES = About(
    title="Faults, alarms, restarts, resets and stages",
    section="accounting",
    place=10,
    reads="A diamond for each time; a larger one where several fell into one learner step.",
)
FAULT_PLACE, CHANGE_PLACE, ROUTINE_PLACE = 1, 3, 7
MOST_RUNS = 3


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found: list[Panel] = []
    notes = []
    for series, run in study.firsts[:MOST_RUNS]:
        head = f"{series.name}: " if len(study.series) > 1 else ""
        if run.seconds and (lanes := tuple(lanes_of(run))):
            scale, unit = (3600, "hours") if run.seconds > 3 * 3600 else (60, "minutes")
            found.append(_panel(run, head, lanes, scale, unit))
            notes.append(head + _sentence(lanes))
    if not found:
        return Absent("nothing but learner steps happened in these runs")
    return Panels(panels=tuple(found), note="\n".join(notes))


def lanes_of(run: Run) -> Iterator[Lane]:
    """What happened of each kind, in seconds since the run began.

    Args:
        run: The run.
    """
    for name in sorted(name for name in run.names if name.startswith("faults/")):
        lane = _lane(run, name.removeprefix("faults/").replace("_", " "), FAULT_PLACE, _count(name))
        if lane.at:
            yield lane
    for name in sorted(name for name in run.names if name.startswith("alarms/")):
        found = run.curve(name)
        begins = found.x[np.diff(found.y, prepend=0.0) > 0]
        if len(begins):
            at = tuple(np.interp(begins, run.clock.x, run.clock.y).tolist())
            yield Lane(label=f"alarm: {name.removeprefix('alarms/')}", place=FAULT_PLACE, at=at)
    resets = _lane(run, "reference reset", CHANGE_PLACE, _count("reference/resets"))
    if resets.at:
        yield resets
    evaluations = tuple(one.at - run.began for one in run.evaluations)
    if evaluations:
        yield Lane(label="evaluation", place=ROUTINE_PLACE, at=evaluations)
    checkpoints = _lane(run, "checkpoint", ROUTINE_PLACE, _is_there("time/checkpoint_s"))
    if checkpoints.at:
        yield checkpoints


def _count(name: str) -> Callable[[Row], float]:
    return lambda line: float(line.get(name) or 0.0)


def _is_there(name: str) -> Callable[[Row], float]:
    return lambda line: float(line.get(name) is not None)


def _lane(run: Run, label: str, place: int, of: Callable[[Row], float]) -> Lane:
    found = [(line[CLOCK] - run.began, of(line)) for line in run.lines if line.get(CLOCK)]
    there = [(at, count) for at, count in found if count > 0]
    return Lane(
        label=label,
        place=place,
        at=tuple(at for at, _ in there),
        weights=tuple(count for _, count in there),
    )


def _panel(run: Run, head: str, lanes: tuple[Lane, ...], scale: float, unit: str) -> Panel:
    marks = tuple(
        Mark(at=float(np.interp(one.step, run.clock.x, run.clock.y)) / scale, name=one.name)
        for one in run.stages[1:]
    )
    return Lanes(
        title=f"{head}what happened when",
        x=f"{unit} of wall time",
        lanes=tuple(
            Lane(
                label=lane.label,
                place=lane.place,
                at=tuple(at / scale for at in lane.at),
                weights=lane.weights,
            )
            for lane in lanes
        ),
        x_range=(-0.01 * run.seconds / scale, 1.01 * run.seconds / scale),
        marks=marks,
    )


def _sentence(lanes: tuple[Lane, ...]) -> str:
    told = [
        f"{lane.label}: {sum(lane.weights) or len(lane.at):.0f}"
        for lane in lanes
        if lane.place != ROUTINE_PLACE
    ]
    return f"{', '.join(told)}." if told else "No fault, no restart, no reset."

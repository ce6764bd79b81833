"""From series to lines: what most figures are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from oapl.reports._drawing.panels import Curves, Line, Mark
from oapl.reports._study.curves import Band, Curve, over, smoothed
from oapl.reports._study.run import Run
from oapl.reports._study.study import Series, Study
from oapl.reports.base import Absent, Drawing, Panels

STEPS = "learner step"
LEAST_POINTS = 2
SMOOTHED_FROM = 24
"""Points of a line above which it is smoothed over what was recorded."""
Of = Callable[[Run], Curve]


def line_of(
    series: Series, band: Band, label: str | None = None, place: int | None = None, **options: Any
) -> Line:
    """Draw a series' band as a line with its standard error over seeds.

    Args:
        series: Gives label and colour, unless these are given.
        band: Over its runs.
        label, place: Of the line.
        options: Of `Line`.
    """
    return Line(
        label=series.label if label is None else label,
        place=series.place if place is None else place,
        x=band.x,
        y=band.mean,
        low=band.mean - band.error if np.isfinite(band.error).any() else None,
        high=band.mean + band.error if np.isfinite(band.error).any() else None,
        **options,
    )


def smooth_line(
    series: Series, of: Of, label: str | None = None, place: int | None = None, **options: Any
) -> Line | None:
    """Draw a curve of a series, a long one smoothed over what was recorded.

    Args:
        series, label, place, options: As of `line_of`.
        of: Gives the curve of a run.

    Returns:
        None where no run has one of two points.
    """
    band = over([of(run) for run in series.runs])
    if len(band.x) < LEAST_POINTS:
        return None
    if len(band.x) < SMOOTHED_FROM:
        return line_of(series, band, label, place, **options)
    mean = smoothed(Curve(band.x, band.mean)).y
    error = smoothed(Curve(band.x, np.nan_to_num(band.error))).y if band.runs.max() > 1 else None
    return Line(
        label=series.label if label is None else label,
        place=series.place if place is None else place,
        x=band.x,
        y=mean,
        low=None if error is None else mean - error,
        high=None if error is None else mean + error,
        raw=(band.x, band.mean),
        **options,
    )


def panel(study: Study, title: str, of: Of, **options: Any) -> Curves | None:
    """Draw a curve of every series over learner steps, with the stages and resets of the runs.

    Args:
        study: The runs.
        title: Of the y axis.
        of: Gives the curve of a run.
        options: Of `Curves`.

    Returns:
        None where no run has one.
    """
    lines = [line for series in study.series if (line := smooth_line(series, of)) is not None]
    return lines_panel(study, title, lines, **options)


def lines_panel(
    study: Study, title: str, lines: Iterable[Line | None], **options: Any
) -> Curves | None:
    """Draw lines over learner steps, with the stages and resets of the runs.

    Args:
        study: The runs.
        title: Of the y axis.
        lines: None are left out.
        options: Of `Curves`.

    Returns:
        None where there is no line.
    """
    found = tuple(line for line in lines if line is not None)
    if not found:
        return None
    low = min(float(line.x[0]) for line in found)
    marks = tuple(mark for mark in marks_of(study) if mark.at >= low)
    return Curves(title=title, x=STEPS, lines=found, **{"marks": marks, **options})


def marks_of(study: Study) -> list[Mark]:
    """Mark where stages begin, by name where all runs have the same, and where references were
    reset."""
    marks = []
    stages = {run.stages for run in study.runs}
    for run in study.runs if len(stages) > 1 else study.runs[:1]:
        for stage in run.stages[1:]:
            marks.append(Mark(at=stage.step, name=stage.name if len(stages) == 1 else ""))
    for series, run in study.firsts:
        name = "reset" if len(run.resets) == 1 else ""
        marks += [Mark(at=step, name=name, place=series.place) for step in run.resets]
    return marks


def metric(name: str) -> Of:
    """The curve of a metric."""
    return lambda run: run.curve(name)


def first_of(names: Sequence[str]) -> Of:
    """The curve of the first of several metrics that a run has."""
    return lambda run: next((found for name in names if (found := run.curve(name))), run.curve(""))


def evaluated(measure: str, of: str | None = None) -> Of:
    """The curve of a measure of the evaluations.

    Args:
        measure, of: See `Run.evaluated`.
    """
    return lambda run: run.evaluated(measure, of)


def panels(found: Iterable[Curves | None], why: str, note: str = "") -> Drawing:
    """Put panels side by side.

    Args:
        found: None are left out.
        why: Said where there is none.
        note: See `Panels`.
    """
    held = tuple(one for one in found if one is not None)
    return Panels(panels=held, note=note) if held else Absent(why)

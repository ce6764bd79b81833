"""Score against the logarithm of the rollouts that were generated."""

from __future__ import annotations

import numpy as np

from oapl.reports._drawing.panels import Curves, Line
from oapl.reports._study.curves import Curve, over
from oapl.reports._study.run import Run
from oapl.reports._study.study import Series, Study
from oapl.reports.base import About, Absent, Drawing, Panels
from oapl.reports.efficiency import score_of

DECLARES = About(
    title="Score against rollout volume",
    section="learning",
    place=50,
    reads="A point per evaluation, with its learner step; the way of a series is joined.",
    like="ReMix Fig. 1",
)
MOST_NAMED = 8
"""Points of a series whose learner steps are written."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    lines = tuple(line for series in study.series if (line := _line(series)) is not None)
    if not lines:
        return Absent(
            "no run has both generated rollouts and two evaluations after it began to train"
        )
    title = "mean score of the evaluation sets"
    return Panels(panels=(Curves(title=title, x="rollouts generated", lines=lines, scale="log10"),))


def _line(series: Series) -> Line | None:
    score = over([_score(run) for run in series.runs])
    volume = over([_volume(run) for run in series.runs])
    if len(score.x) < 2 or len(volume.x) != len(score.x):
        return None
    every = -(-len(score.x) // MOST_NAMED)
    last = len(score.x) - 1
    names = [
        f"{step:.0f}" if index % every == 0 or index == last else ""
        for index, step in enumerate(score.x)
    ]
    return Line(
        label=series.label,
        place=series.place,
        x=volume.mean,
        y=score.mean,
        has_points=True,
        names=tuple(names),
    )


def _score(run: Run) -> Curve:
    """Of evaluations after the first rollouts: none have a logarithm."""
    found = score_of(run)
    is_shown = _generated(run, found) > 0
    return Curve(found.x[is_shown], found.y[is_shown])


def _volume(run: Run) -> Curve:
    """Rollouts over the learner steps of those evaluations."""
    found = _score(run)
    return Curve(found.x, _generated(run, found))


def _generated(run: Run, found: Curve) -> np.ndarray:
    """Rollouts until each place of a curve over learner steps."""
    made = run.volume
    return np.interp(found.x, made.x, made.y) if made else np.zeros(len(found))

"""Scores by category of an evaluation set: puzzles, subjects, levels."""

from __future__ import annotations

import numpy as np

from oapl.reports._drawing.panels import Bars
from oapl.reports._scores import columns
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Scores by category",
    section="evaluation",
    place=15,
    reads="The last evaluation of each run beside that before training, category by category.",
    like="ProRL Fig. 2",
)
EACH = 12
"""Categories of a picture."""
MEASURES = ("mean@n", "greedy")


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    there = study.categories
    parts = [there[start : start + EACH] for start in range(0, len(there), EACH)]
    found = [bars for part in parts if (bars := _bars(study, part)) is not None]
    if not found:
        return Absent("no evaluation set of these runs has categories")
    return Panels(panels=tuple(found))


def _bars(study: Study, part: tuple[str, ...]) -> Bars | None:
    for measure in MEASURES:
        groups = tuple(one.bars([(measure, of) for of in part]) for one in columns(study))
        if any(np.isfinite(group.values).any() for group in groups):
            return Bars(
                title=f"{measure}, %",
                x="",
                categories=tuple(of.rpartition("/")[2] for of in part),
                groups=groups,
                is_percent=True,
                size="wide",
            )
    return None

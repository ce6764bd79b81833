"""Scores by evaluation set and model, with their values."""

from __future__ import annotations

import numpy as np

from oapl.reports._drawing.panels import BarGroup, Bars
from oapl.reports._scores import columns
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Scores by evaluation set",
    section="evaluation",
    place=10,
    reads="The last evaluation of each run beside that before training, in percent of the largest "
    "reward. Whiskers are one standard error: over seeds, or over problems where there is one.",
    like="PCL Fig. 1; ProRL Fig. 2, 3",
)
MEASURES = {"mean@n": "mean score (mean@n)", "greedy": "greedy score", "maj@n": "majority (maj@n)"}
WIDE_FROM = 5
"""Sets at which a panel is wide."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found = []
    for measure, title in MEASURES.items():
        groups = tuple(
            one.bars([(measure, of) for of in study.sets]) for one in columns(study) if study.sets
        )
        if any(_is_there(group) for group in groups):
            found.append(
                Bars(
                    title=f"{title}, %",
                    x="",
                    categories=study.sets,
                    groups=groups,
                    is_percent=True,
                    size="wide" if len(study.sets) >= WIDE_FROM else "small",
                )
            )
    if not found:
        return Absent("these runs were not evaluated (eval.sources)")
    return Panels(panels=tuple(found))


def _is_there(group: BarGroup) -> bool:
    return bool(np.isfinite(group.values).any())

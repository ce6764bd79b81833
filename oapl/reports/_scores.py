"""Scores of series at the end of their runs, and of what they began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oapl.reports._drawing.panels import BarGroup
from oapl.reports._study.run import Run
from oapl.reports._study.study import Series, Study

BEFORE = "before training"
BEFORE_PLACE = 7
"""Of its colour: the one that stands back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Something that has scores: a series, or what it began with.

    Attributes:
        name: In the legend.
        place: Of the colour.
        runs: Whose evaluations count.
        is_last: The last one of each, else the first.
    """

    name: str
    place: int
    runs: tuple[Run, ...]
    is_last: bool

    def score(self, measure: str, of: str) -> tuple[float, float]:
        """Mean over the runs, with its standard error: over seeds where there are several, else
        over problems.

        Args:
            measure, of: As of `Run.scored`.

        Returns:
            NaN where there is none.
        """
        found = [one for run in self.runs if (one := run.scored(measure, of, self.is_last))]
        if not found:
            return float("nan"), float("nan")
        values = [value for value, _ in found]
        if len(values) == 1:
            return found[0]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        return float(np.mean(values)), float(error)

    def bars(self, measures: Sequence[tuple[str, str]]) -> BarGroup:
        """A bar for each of several measures of sets."""
        scores = [self.score(measure, of) for measure, of in measures]
        values, errors = (tuple(one) for one in zip(*scores, strict=True))
        return BarGroup(label=self.name, place=self.place, values=values, errors=errors)


def columns(study: Study) -> list[Column]:
    """What began, where a run was evaluated before training, then every series."""
    trained = [run for run in study.runs if len(run.evaluations) > 1]
    before = [Column(name=BEFORE, place=BEFORE_PLACE, runs=tuple(trained), is_last=False)]
    return (before if trained else []) + [_column(series) for series in study.series]


def _column(series: Series) -> Column:
    return Column(name=series.name, place=series.place, runs=series.runs, is_last=True)

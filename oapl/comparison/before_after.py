"""Measures of two evaluations side by side.

A measure's standard error stands beside it under its name + `SE`; see `oapl.evaluation`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

SE = "_se"
HEADLINES = ("mean@", "greedy")
"""Beginnings of the measures that stand for an evaluation, the first one that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure before and after; None where it was not measured.

    Attributes:
        measure: Name without `eval/`.
        before, after: In the measure's own unit.
        before_se, after_se: Their standard errors over problems.
    """

    measure: str
    before: float | None
    after: float | None
    before_se: float | None = None
    after_se: float | None = None

    @property
    def change(self) -> float | None:
        """After minus before; None unless both were measured."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


def compare(before: Mapping[str, float], after: Mapping[str, float]) -> list[Comparison]:
    """Pair the measures of two evaluations.

    Args:
        before: Metrics of `oapl.evaluation.summary.summarise`, of one set or several.
        after: The same of the later evaluation.

    Returns:
        One row per measure of either, in the order of `after`, then what only `before` has.
    """
    names = list(dict.fromkeys([*after, *before]))
    return [
        Comparison(
            measure=name.removeprefix("eval/"),
            before=before.get(name),
            after=after.get(name),
            before_se=before.get(name + SE),
            after_se=after.get(name + SE),
        )
        for name in names
        if not name.endswith(SE)
    ]


def score(figures: Mapping[str, float]) -> tuple[str, float] | None:
    """Sum up an evaluation in one number: mean@n, or greedy where nothing was sampled.

    Args:
        figures: Metrics of `oapl.evaluation.summary.summarise`, of one set or several.

    Returns:
        The measure, and its mean over the sets; None where neither was measured.
    """
    for beginning in HEADLINES:
        found = [
            (name.rpartition("/")[2], value)
            for name, value in figures.items()
            if _is_of_a_set(name) and name.rpartition("/")[2].startswith(beginning)
        ]
        if found:
            return found[0][0], statistics.fmean(value for _, value in found)
    return None


def _is_of_a_set(name: str) -> bool:
    """Whether a figure is of a whole set, not of a category of it, and no error."""
    return name.count("/") == 2 and not name.endswith(SE)

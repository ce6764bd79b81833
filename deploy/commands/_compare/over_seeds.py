"""Both sides as methods, each run several times, one run per seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.commands._compare.sides import Asked, Run, SetAnswers
from oapl.comparison.seeds import (
    FEWEST_SEEDS,
    interquartile_mean,
    iqm_difference,
    mean_of_maxima,
)
from oapl.evaluation.per_problem import Number, number_of

PER_N = ("mean", "maj")
"""Measures that metrics call by their number of samples, `mean@8`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maxima:
    """Mean over runs of each run's best evaluation of a set, with its standard error."""

    name: str
    a: tuple[float, float]
    b: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """Both sides as methods, each run several times.

    Attributes:
        measure: That is looked at, the first one.
        runs: Of A and of B.
        iqm_a, iqm_b: Interquartile means over runs and sets of the evaluations compared.
        change, low, high: Their difference and the ends of its 95 % interval.
        maxima: By set; none where answers alone were named.
    """

    measure: str
    runs: tuple[int, int]
    iqm_a: float
    iqm_b: float
    change: float
    low: float
    high: float
    maxima: tuple[Maxima, ...]

    @property
    def is_thin(self) -> bool:
        """Whether a side has too few runs for its spread to be known."""
        return min(self.runs) < FEWEST_SEEDS


def over_seeds(
    a: Sequence[Run],
    b: Sequence[Run],
    pairs: Sequence[tuple[str, str]],
    measure: str,
    asked: Asked,
) -> OverSeeds:
    """Compare two methods by their runs.

    Args:
        a, b: The runs of each, one per seed.
        pairs: Names of the sets that are compared, on either side.
        measure: That is looked at.
        asked: Threshold, draws and seed.
    """
    number = number_of(measure)
    assert number is not None, "it was compared before"
    before, after = (
        np.array([[_score(run, pair[side], number, asked) for pair in pairs] for run in runs])
        for side, runs in enumerate((a, b))
    )
    chance = np.random.default_rng([asked.seed, len(a), len(b)])
    change, low, high = iqm_difference(before, after, asked.draws, chance)
    return OverSeeds(
        measure=measure,
        runs=(len(a), len(b)),
        iqm_a=interquartile_mean(before),
        iqm_b=interquartile_mean(after),
        change=change,
        low=low,
        high=high,
        maxima=tuple(one for pair in pairs if (one := _maxima(a, b, pair, measure)) is not None),
    )


def _score(run: Run, name: str, number: Number, asked: Asked) -> float:
    return float(np.mean(list(run.sets[name].values(number, asked.threshold).values())))


def _maxima(
    a: Sequence[Run], b: Sequence[Run], pair: tuple[str, str], measure: str
) -> Maxima | None:
    curves = [
        [run.curve(name, _in_metrics(run.sets[name], measure)) for run in runs]
        for runs, name in ((a, pair[0]), (b, pair[1]))
    ]
    if not all(curve for side in curves for curve in side):
        return None
    return Maxima(name=pair[0], a=mean_of_maxima(curves[0]), b=mean_of_maxima(curves[1]))


def _in_metrics(one: SetAnswers, measure: str) -> str:
    return f"{measure}@{one.made.protocol.num_samples}" if measure in PER_N else measure

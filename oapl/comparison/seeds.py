"""Methods compared over seeds: the same recipe run several times, on one or several sets.

Source: the mean of each run's best evaluation, with its standard error, is the bar of OAPL's
figure 1; it looks at the best of many noisy evaluations and so lies above what a run would score
again. The interquartile mean with a stratified bootstrap is Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice" (arXiv 2108.13264, sections 4.2 and
4.3): runs are drawn anew within each set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from oapl.comparison.bootstrap import interval

FEWEST_SEEDS = 5
"""Below, the spread over seeds is hardly known, and the bootstrap's intervals are too short."""
TRIMMED = 0.25


def mean_of_maxima(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Average each run's best evaluation.

    Args:
        curves: Per run its scores in their order, at least one.

    Returns:
        The mean over runs and its standard error s / sqrt(R), NaN for one run.
    """
    best = np.array([max(curve) for curve in curves], np.float64)
    if len(best) < 2:
        return float(best.mean()), math.nan
    return float(best.mean()), float(best.std(ddof=1) / math.sqrt(len(best)))


def interquartile_mean(scores: np.ndarray) -> float:
    """Average the middle half of all scores, of all runs on all sets.

    Args:
        scores: float [R, S], per run and set.
    """
    return float(_trimmed(scores.reshape(1, -1))[0])


def resampled_iqms(scores: np.ndarray, draws: int, chance: np.random.Generator) -> np.ndarray:
    """Give the interquartile means of so many draws of runs, drawn anew within each set.

    Args:
        scores: float [R, S].
        draws: How many.
        chance: Draws.

    Returns:
        float64 [draws].
    """
    runs, sets = scores.shape
    drawn = chance.integers(runs, size=(draws, runs, sets))
    return _trimmed(scores[drawn, np.arange(sets)].reshape(draws, -1))


def iqm_difference(
    before: np.ndarray, after: np.ndarray, draws: int, chance: np.random.Generator
) -> tuple[float, float, float]:
    """Compare two methods by their interquartile means.

    Args:
        before, after: float [R, S] each, of as many runs as each has, on the same sets.
        draws: Resamples.
        chance: Draws.

    Returns:
        The difference, after minus before, and the ends of its 95 % interval.
    """
    difference = interquartile_mean(after) - interquartile_mean(before)
    of_after = resampled_iqms(after, draws, chance)
    return (difference, *interval(of_after - resampled_iqms(before, draws, chance)))


def _trimmed(rows: np.ndarray) -> np.ndarray:
    """The mean of each row without a quarter, rounded down, at either end."""
    size = rows.shape[1]
    cut = int(TRIMMED * size)
    return np.asarray(np.sort(rows, axis=1)[:, cut : size - cut].mean(axis=1))

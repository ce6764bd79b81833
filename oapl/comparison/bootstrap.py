"""The bootstrap over problems: where a mean would lie with other problems of the same kind.

Invariant: what is drawn anew is whole problems. A problem comes as one number, the mean over its
samples, so that its samples, which are not independent of one another, stay together.

Honest limit: of percentiles, these intervals are a little short for few problems (by sqrt(1 - 1/P)
of the width; 3 % at 15).

Source: Efron and Tibshirani, "An introduction to the bootstrap", chapter 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

DRAWS = 10_000
"""Resamples: the ends of a 95 % interval then move by about 1 % of its width from seed to seed."""
LEVEL = 0.95
NUMBERS_AT_A_TIME = 2**21
"""Bounds the memory, 16 MB of indices."""


def resampled_means(values: np.ndarray, draws: int, chance: np.random.Generator) -> np.ndarray:
    """Give the means of so many draws of all problems with replacement.

    Args:
        values: float [P], a number per problem.
        draws: How many.
        chance: Draws.

    Returns:
        float64 [draws].
    """
    size = len(values)
    parts = [
        values[chance.integers(size, size=(count, size))].mean(axis=1)
        for count in shares(draws, size)
    ]
    return np.concatenate(parts)


def interval(draws: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Give the ends of the percentile interval.

    Args:
        draws: float [draws], a statistic of each resample.
        level: Share of them between the ends.
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def shares(draws: int, size: int) -> Iterator[int]:
    """Cut a number of draws into counts whose numbers fit into memory together.

    Args:
        draws: How many in all.
        size: Numbers of one.
    """
    most = max(1, NUMBERS_AT_A_TIME // max(size, 1))
    for begin in range(0, draws, most):
        yield min(most, draws - begin)

"""The sign-flip test: how often chance alone would set two models as far apart on these problems.

If both were equally good, which of two answers to a problem is called the first would not matter,
so each difference might as well have the other sign. The statistic is the mean difference, both
sides count, and a difference of 0 has no sign to flip.

Source: Fisher's randomisation test for pairs ("The design of experiments", section 21); the drawn
form counts the observed signs as one of the draws, so that p is never 0 and the test is exact
(Phipson and Smyth 2010).
"""

from __future__ import annotations

import numpy as np

from oapl.comparison.bootstrap import shares

MOST_ENUMERATED = 14
"""Differences other than 0 up to which all signs are tried, 16,384 ways; above they are drawn."""
TIE = 1e-9
"""Relative: sums of the same numbers in another order may differ in their last bits."""


def sign_flip_p(differences: np.ndarray, draws: int, chance: np.random.Generator) -> float:
    """Give the two-sided p of a mean difference of 0.

    Args:
        differences: float [P], one per problem.
        draws: Signs drawn, where there are too many to try them all.
        chance: Draws.
    """
    values = differences[differences != 0].astype(np.float64)
    observed = abs(values.sum()) * (1 - TIE)
    if len(values) <= MOST_ENUMERATED:
        return float(np.mean(np.abs(all_signs(len(values)) @ values) >= observed))
    found = 1
    for count in shares(draws, len(values)):
        signs = chance.integers(2, size=(count, len(values)), dtype=np.int8) * 2.0 - 1.0
        found += int(np.count_nonzero(np.abs(signs @ values) >= observed))
    return found / (draws + 1)


def all_signs(count: int) -> np.ndarray:
    """Give every way to sign so many numbers: float64 [2^count, count], of -1 and 1."""
    ways = np.arange(2**count)[:, None] >> np.arange(count)
    return 2.0 * (ways & 1) - 1.0

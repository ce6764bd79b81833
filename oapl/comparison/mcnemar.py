"""McNemar's exact test: two greedy answers to each problem, right or wrong.

Only problems that one model solves and the other does not tell them apart; if both were equally
good, each of these would be a fair coin.

Source: McNemar 1947, in its exact, binomial form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Discordant:
    """What tells two sets of right and wrong answers apart.

    Attributes:
        gained: Problems that only the second one solves.
        lost: Problems that only the first one solves.
    """

    gained: int
    lost: int

    @property
    def p(self) -> float:
        """Two-sided: of as many fair coins, at least so unequal a split; 1 without any."""
        count = self.gained + self.lost
        ways = tail = 1  # of no coin on the rarer side
        for k in range(min(self.gained, self.lost)):
            ways = ways * (count - k) // (k + 1)
            tail += ways
        return min(1.0, 2 * tail / 2**count)


def discordant(before: np.ndarray, after: np.ndarray) -> Discordant:
    """Count the problems that one side solves alone.

    Args:
        before, after: bool [P], whether each problem was answered rightly.
    """
    return Discordant(
        gained=int(np.count_nonzero(after & ~before)), lost=int(np.count_nonzero(before & ~after))
    )

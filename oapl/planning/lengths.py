"""How much work a group is: drawn from a distribution, or from groups that were stored.

A group is done when its longest rollout is, and holds its place so long; a rollout that ends sooner
leaves its engine to others. Invariant: the same draw, attempt and seed are the same lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SIGMA = 0.6
"""Spread of the logarithm of a group's duration where one was drawn so far."""
CUT = 4.0
"""Longest duration, in means."""
ROWS = 4096
"""Groups drawn from a distribution; later ones are these again."""


class Lengths(Protocol):
    """Where the simulation learns how long the attempts of a draw take."""

    def group(self, draw: int, attempt: int) -> tuple[float, float]:
        """Tell the longest rollout's work, and that of all together.

        Args:
            draw: Number of the prompt's draw, from 1.
            attempt: Of that draw, from 0.
        """

    def made(self, draw: int, attempt: int, progress: float) -> float:
        """Tell the work that was done when each rollout had come so far, or had ended.

        Args:
            draw, attempt: As in `group`.
            progress: Work of the rollouts that are still going on.
        """


def duration(mean: float, draw: int, attempt: int, seed: int = 0) -> float:
    """How long the `attempt`th try of a draw takes: lognormal with this mean, cut at 4 of it.

    Args:
        mean: In any unit.
        draw, attempt: See `Lengths.group`.
        seed: Of all draws.
    """
    normal = float(np.random.default_rng([seed, draw, attempt]).normal())
    return min(mean * math.exp(SIGMA * normal - SIGMA**2 / 2), CUT * mean)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Groups of one rollout, by `duration`: what real actors wait is what is simulated."""

    mean: float
    seed: int = 0

    def group(self, draw: int, attempt: int) -> tuple[float, float]:
        """See `Lengths`.

        Args:
            draw, attempt: See there.
        """
        took = duration(self.mean, draw, attempt, self.seed)
        return took, took

    def made(self, draw: int, attempt: int, progress: float) -> float:
        """See `Lengths`.

        Args:
            draw, attempt, progress: See there.
        """
        return progress


class Table:
    """Groups with a length for each rollout.

    A draw has the next row; another attempt at it has the row's lengths drawn again, with
    repetition, since a prompt whose answers are long stays one.

    Args:
        rows: Tokens of each rollout of each group, float64 [N, G].
        seed: Of the order of rows, and of further attempts.
    """

    def __init__(self, rows: np.ndarray, seed: int = 0) -> None:
        self.rows = np.asarray(rows, float)
        self._seed = seed
        self._order = np.random.default_rng([seed, 1]).permutation(len(self.rows)).tolist()
        self._longest = self.rows.max(axis=1).tolist()
        self._total = self.rows.sum(axis=1).tolist()

    @property
    def mean(self) -> float:
        """Tokens of a rollout."""
        return float(self.rows.mean())

    @property
    def mean_total(self) -> float:
        """Tokens of a group."""
        return float(np.mean(self._total))

    @property
    def activity(self) -> float:
        """Rollouts of a group that are at work while it lasts, on average over time."""
        return float(np.sum(self._total) / np.sum(self._longest))

    @property
    def size(self) -> int:
        """G, rollouts of a group."""
        return int(self.rows.shape[1])

    def group(self, draw: int, attempt: int) -> tuple[float, float]:
        """See `Lengths`.

        Args:
            draw, attempt: See there.
        """
        if not attempt:
            row = self._order[draw % len(self._order)]
            return self._longest[row], self._total[row]
        lengths = self._lengths(draw, attempt)
        return float(lengths.max()), float(lengths.sum())

    def made(self, draw: int, attempt: int, progress: float) -> float:
        """See `Lengths`.

        Args:
            draw, attempt, progress: See there.
        """
        return float(np.minimum(self._lengths(draw, attempt), progress).sum())

    def _lengths(self, draw: int, attempt: int) -> np.ndarray:
        """Of the rollouts of one attempt, float64 [G]."""
        row = self.rows[self._order[draw % len(self._order)]]
        if not attempt:
            return row
        return np.random.default_rng([self._seed, 2, draw, attempt]).choice(row, len(row))


def drawn(mean: float, sigma: float, limit: float, group_size: int, seed: int = 0) -> Table:
    """Draw groups whose rollouts are as long as chance will have it, each by itself.

    Lognormal lengths with so large a spread, cut at the limit; the mean is that after the cut.

    Args:
        mean: Tokens of a response.
        sigma: Standard deviation of the logarithm.
        limit: Longest response, above the mean.
        group_size: G.
        seed: Of the draws.
    """
    normal = np.random.default_rng([seed, 0]).normal(size=(ROWS, group_size))
    shape = np.exp(sigma * normal)
    low, high = 0.0, limit / max(float(np.median(shape)), 1e-9) * 1e3
    for _ in range(60):  # the factor at which the mean after the cut is the one asked for
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.minimum(middle * shape, limit).mean() < mean else (low, middle)
        )
    return Table(np.clip(high * shape, 1.0, limit), seed)


def stored(groups: Sequence[Sequence[int]], group_size: int, seed: int = 0) -> Table:
    """Take the lengths of groups that were made, whatever their G was.

    Args:
        groups: Tokens of each rollout of each group; groups without rollouts are left out.
        group_size: G of the run that is planned; of groups of another size so many are drawn from
            each, with repetition.
        seed: Of these draws.
    """
    chance = np.random.default_rng([seed, 3])
    rows = [
        np.asarray(group, float)
        if len(group) == group_size
        else chance.choice(np.asarray(group, float), group_size)
        for group in groups
        if len(group)
    ]
    return Table(np.stack(rows), seed)

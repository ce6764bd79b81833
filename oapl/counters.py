"""What happened since the last report: sums, and the moments of streams of numbers.

Every owner of state accumulates with these and is emptied once per learner step. Invariants: a
number that was not observed is absent, never zero or NaN; two accumulators together say what one
would say that had seen everything.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from oapl.records import Metrics

STATISTICS = ("mean", "std", "min", "max")


class Counters:
    """Sums by name, added to and read from different threads; pickled with what they hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: Metrics = {}

    def add(self, amounts: Mapping[str, float]) -> None:
        """Add to the sums of these names."""
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] = self._sums.get(name, 0.0) + amount

    def take(self) -> Metrics:
        """The sums, which start again without any name."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return sums

    def __getstate__(self) -> Metrics:
        with self._lock:
            return dict(self._sums)

    def __setstate__(self, sums: Metrics) -> None:
        self._lock = threading.Lock()
        self._sums = sums


@dataclass(slots=True)
class Moments:
    """Count, mean, spread and range of a stream of numbers, in constant memory.

    Attributes:
        squares: Sum of squared deviations from the mean.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979), for the sum of two streams.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    min: float = math.inf
    max: float = -math.inf

    def add(self, values: Iterable[float] | np.ndarray) -> None:
        """Take in numbers [N], or an array of any shape, or none at all; computed in float64."""
        new = np.asarray(values if isinstance(values, np.ndarray) else list(values), np.float64)
        if new.size:
            mean = float(new.mean())
            squares = float(((new - mean) ** 2).sum())
            self.merge(Moments(new.size, mean, squares, float(new.min()), float(new.max())))

    def merge(self, other: Moments) -> None:
        """Take in all that `other` has seen."""
        total = self.count + other.count
        if not total:
            return
        shift = other.mean - self.mean
        self.mean += shift * other.count / total
        self.squares += other.squares + shift**2 * self.count * other.count / total
        self.count = total
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)

    @property
    def std(self) -> float:
        """Population standard deviation; 0 of nothing."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def ess(self) -> float:
        """Effective sample size of such weights, as a share: (sum w)^2 / (n sum w^2).

        Source: A. Kong, "A note on importance sampling using standardized weights" (1992).
        """
        second = self.mean**2 + self.std**2
        return self.mean**2 / second if second else 0.0

    def report(self, name: str, statistics: Iterable[str] = STATISTICS) -> Metrics:
        """The stream under metric names; nothing where nothing was seen.

        Args:
            name: A plain name is the mean; of one that ends in `*`, each statistic takes its place;
                one that ends in `_ess` is the effective sample size.
            statistics: Some of `STATISTICS`.
        """
        if not self.count:
            return {}
        if name.endswith("_ess"):
            return {name: self.ess}
        if not name.endswith("*"):
            return {name: self.mean}
        return {name.removesuffix("*") + which: getattr(self, which) for which in statistics}

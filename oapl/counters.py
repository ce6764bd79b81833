"""What happened since the last report: sums, seconds by state, the moments of streams of numbers.

Every owner of state accumulates with these and is emptied once per learner step. Invariants: a
number that was not observed is absent, never zero or NaN; two accumulators together say what one
would say that had seen everything.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
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


class Stopwatch:
    """Seconds in one state at a time, so that they add up to the time that passed; read from any
    thread.

    Args:
        counters: Where they are counted.
        form: The name of a count, with `{}` for the state.
        state: The first state.
        since: When it began, by the monotonic clock; None means now.

    Attributes:
        state: The present one.
    """

    def __init__(
        self, counters: Counters, form: str, state: str, since: float | None = None
    ) -> None:
        self.state = state
        self._counters = counters
        self._form = form
        self._lock = threading.Lock()
        self._instead: dict[str, str] = {}
        self._since = time.monotonic() if since is None else since

    def enter(self, state: str) -> str:
        """Leave the present state for another; returns the one that was left."""
        with self._lock:
            self._count(time.monotonic())
            left, self.state = self.state, state
        return left

    @contextlib.contextmanager
    def within(self, state: str) -> Iterator[None]:
        """Be in a state while the block runs, and then in the one before."""
        left = self.enter(state)
        try:
            yield
        finally:
            self.enter(left)

    @contextlib.contextmanager
    def instead(self, states: Collection[str], other: str) -> Iterator[None]:
        """Count what is spent in some states as another one's while the block runs.

        Args:
            states: As they are entered and left meanwhile.
            other: Which they are counted as.
        """
        self.count()
        self._instead |= dict.fromkeys(states, other)
        try:
            yield
        finally:
            self.count()
            for state in states:
                self._instead.pop(state, None)

    def count(self, now: float | None = None) -> None:
        """Count the state that goes on, up to a moment; None means now."""
        with self._lock:
            self._count(time.monotonic() if now is None else now)

    def _count(self, now: float) -> None:
        state = self._instead.get(self.state, self.state)
        self._counters.add({self._form.format(state): now - self._since})
        self._since = now


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

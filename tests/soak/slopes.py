"""How fast what processes hold grows, per hour: pure, from samples to slopes and what is too much.

Processes of one role are put together as lives: each has a level of its own, and the slope is what
they have in common. Invariant: a slope is too large only where it is above its bound by more than
twice its standard error, so that a short soak says little rather than something wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

HOUR_S = 3600.0
WARM_S = 90.0
"""Of a life, in which a process still grows to its size."""
SURE = 2.0
"""Standard errors."""
MEASURES = ("rss", "descriptors", "threads", "shm")
BOUNDS: Mapping[str, float] = {
    "rss": 96 * 2**20,
    "descriptors": 24.0,
    "threads": 12.0,
    "shm": 32 * 2**20,
}
"""Largest slope per hour: what a run of a week could bear would be found in an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one process held at a time.

    Attributes:
        at_s: Since the soak began.
        role: Of the process.
        life: Which process: its id, and when it began.
        age_s: Since then.
        rss, shm: Bytes of memory, and of those the shared ones.
        descriptors, threads: How many it had open, and how many ran.
    """

    at_s: float
    role: str
    life: str
    age_s: float
    rss: float
    descriptors: float
    threads: float
    shm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Of one measure of one role.

    Attributes:
        role, measure: Whose, of what.
        lives: Processes of which there are enough samples.
        hours: That they lived together.
        level: Mean of the measure.
        per_hour: How much it grows.
        error: Standard error of that; infinite where there are too few samples.
    """

    role: str
    measure: str
    lives: int
    hours: float
    level: float
    per_hour: float
    error: float

    @property
    def is_too_large(self) -> bool:
        """Whether it is surely above its bound."""
        return self.per_hour - SURE * self.error > BOUNDS[self.measure]


Points = Sequence[tuple[float, float]]
"""Seconds, value."""


def slopes(samples: Iterable[Sample]) -> list[Slope]:
    """Find those of all roles and measures, in order of the roles.

    Args:
        samples: In any order.
    """
    lives: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if sample.age_s >= WARM_S:
            lives[sample.role][sample.life].append(sample)
    return [
        _slope(role, measure, [_points(life, measure) for life in lives[role].values()])
        for role in sorted(lives)
        for measure in MEASURES
    ]


def _points(life: Sequence[Sample], measure: str) -> Points:
    return [(sample.at_s, float(asdict(sample)[measure])) for sample in life]


def _slope(role: str, measure: str, lives: Sequence[Points]) -> Slope:
    long = [points for points in lives if len(points) > 1]
    per_s, error = fitted(long)
    values = [value for points in lives for _, value in points]
    return Slope(
        role=role,
        measure=measure,
        lives=len(long),
        hours=sum(max(points)[0] - min(points)[0] for points in long) / HOUR_S,
        level=sum(values) / len(values),
        per_hour=per_s * HOUR_S,
        error=error * HOUR_S,
    )


def fitted(lives: Sequence[Points]) -> tuple[float, float]:
    """Fit lines of one slope, each life at its own level, by least squares.

    Args:
        lives: Points of each.

    Returns:
        The slope per second, and its standard error: 0 and infinite where no time has passed.
    """
    centred = [pair for points in lives for pair in _centred(points)]
    spread = sum(t * t for t, _ in centred)
    if not spread:
        return 0.0, math.inf
    slope = sum(t * v for t, v in centred) / spread
    free = len(centred) - len(lives) - 1
    if free < 1:
        return slope, math.inf
    rest = sum((v - slope * t) ** 2 for t, v in centred)
    return slope, math.sqrt(rest / free / spread)


def _centred(points: Points) -> list[tuple[float, float]]:
    times, values = zip(*points, strict=True)
    t, v = sum(times) / len(times), sum(values) / len(values)
    return [(time - t, value - v) for time, value in points]

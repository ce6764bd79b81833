"""Numbers over an axis: one run's, and several runs' together with their spread.

Invariants: a curve rises in x and holds only finite numbers; what is thinned out for a picture is
the mean of a stretch, never a point picked from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 160
"""Of a line in a picture: more cannot be told apart at its width."""
SMOOTHED_SHARE = 0.05
"""Of the curve's points, over which a smoothed one is a mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Numbers of one run.

    Attributes:
        x: float64 [N], rising.
        y: float64 [N], finite.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __bool__(self) -> bool:
        return len(self.x) > 0

    @property
    def last(self) -> float:
        """The last number; NaN of an empty curve."""
        return float(self.y[-1]) if len(self.y) else float("nan")

    def tail(self, share: float = 0.1) -> float:
        """The mean of the last share of the points; NaN of an empty curve."""
        return float(self.y[-max(1, round(share * len(self.y))) :].mean()) if self else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Numbers of several runs.

    Attributes:
        x: float64 [N], rising.
        mean: float64 [N], over the runs that have a number there.
        error: float64 [N], the standard error of that mean; NaN where fewer than two have one.
        runs: int64 [N], how many have one.
    """

    x: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    runs: np.ndarray

    def __bool__(self) -> bool:
        return len(self.x) > 0


def curve(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Curve:
    """Make a curve of pairs in any order; of equal x the last stays, what is not finite goes.

    Args:
        x, y: float [N].
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    is_kept = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[is_kept], ys[is_kept]
    order = np.argsort(xs, kind="stable")
    xs, ys = xs[order], ys[order]
    is_last = np.append(xs[1:] != xs[:-1], True)[: len(xs)]
    return Curve(xs[is_last], ys[is_last])


def thinned(one: Curve, points: int = POINTS) -> Curve:
    """Give means of equal stretches of x where there are more points than a picture can show.

    Args:
        one: Any curve.
        points: That it has at most.
    """
    if len(one) <= points:
        return one
    edges = np.linspace(one.x[0], one.x[-1], points + 1)
    return _binned(one, edges)


def smoothed(one: Curve, share: float = SMOOTHED_SHARE) -> Curve:
    """Give the running mean of a share of the points, centred; at the ends over what is there.

    Args:
        one: Any curve.
        share: Of its points, that a mean is over.
    """
    width = max(1, round(share * len(one)))
    if width < 3:
        return one
    ones = np.ones(width)
    weight = np.convolve(np.ones(len(one)), ones, "same")
    return Curve(one.x, np.convolve(one.y, ones, "same") / weight)


def over(curves: Sequence[Curve], points: int = POINTS) -> Band:
    """Put curves of several runs together, where all are recorded at the same few places there,
    else in equal stretches of x.

    Args:
        curves: Of runs that differ in their seed; empty ones count for nothing.
        points: As of `thinned`.
    """
    curves = [one for one in curves if one]
    if not curves:
        return _band(np.empty(0), np.empty((0, 0)))
    places = np.unique(np.concatenate([one.x for one in curves]))
    if len(places) <= points:
        rows = np.full((len(curves), len(places)), np.nan)
        for row, one in zip(rows, curves, strict=True):
            row[np.searchsorted(places, one.x)] = one.y
        return _band(places, rows)
    edges = np.linspace(places[0], places[-1], points + 1)
    means = [_binned(one, edges) for one in curves]
    centres = np.unique(np.concatenate([one.x for one in means]))
    rows = np.full((len(curves), len(centres)), np.nan)
    for row, one in zip(rows, means, strict=True):
        row[np.searchsorted(centres, one.x)] = one.y
    return _band(centres, rows)


def over_shared(curves: Sequence[Curve], points: int = POINTS) -> Band:
    """Put curves together along an axis on which no two runs have a point in common, such as hours:
    on straight lines between points, over the stretch that all of them cover.

    Args:
        curves, points: As of `over`.
    """
    curves = [one for one in curves if one]
    if len(curves) < 2:
        return over(curves, points)
    low, high = max(one.x[0] for one in curves), min(one.x[-1] for one in curves)
    if low > high:
        return over(curves[:1], points)
    grid = np.linspace(low, high, max(2, min(points, max(map(len, curves)))))
    return _band(grid, np.stack([np.interp(grid, one.x, one.y) for one in curves]))


def mapped(
    one: Curve, x_of: Curve, shape: Callable[[np.ndarray], np.ndarray] | None = None
) -> Curve:
    """Draw a curve over another axis, which `x_of` gives at each of the old one.

    Args:
        one: Over the old axis.
        x_of: The new axis over the old one, not falling.
        shape: Applied to the new axis, float64 [N].
    """
    if not one or not x_of:
        return curve([], [])
    new = np.interp(one.x, x_of.x, x_of.y)
    return curve(new if shape is None else shape(new), one.y)


def first_at(one: Curve, level: float) -> float | None:
    """Where a curve first reaches a level, on a straight line between points; None: nowhere.

    Args:
        one: Rising in x.
        level: Of y.
    """
    above = np.flatnonzero(one.y >= level)
    if not len(above):
        return None
    at = int(above[0])
    if at == 0:
        return float(one.x[0])
    share = (level - one.y[at - 1]) / (one.y[at] - one.y[at - 1])
    return float(one.x[at - 1] + share * (one.x[at] - one.x[at - 1]))


def _binned(one: Curve, edges: np.ndarray) -> Curve:
    """Means of the stretches between edges, at their middles; an empty one has no point."""
    bins = np.clip(np.searchsorted(edges, one.x, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, weights=one.y, minlength=len(edges) - 1)
    is_there = counts > 0
    return Curve((0.5 * (edges[1:] + edges[:-1]))[is_there], sums[is_there] / counts[is_there])


def _band(x: np.ndarray, rows: np.ndarray) -> Band:
    """Over rows [R, N], NaN where a run has no number."""
    runs = np.isfinite(rows).sum(axis=0)
    filled = np.where(np.isfinite(rows), rows, 0.0)
    mean = filled.sum(axis=0) / np.maximum(runs, 1)
    squares = (np.where(np.isfinite(rows), rows - mean, 0.0) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(squares / (runs - 1) / runs)
    return Band(x, mean, np.where(runs > 1, error, np.nan), runs)

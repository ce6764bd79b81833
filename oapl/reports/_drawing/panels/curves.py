"""Lines over an axis, and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oapl.reports._drawing.ink import Ink
from oapl.reports._drawing.panels.base import (
    INCHES,
    MARGINS,
    SMALL_TEXT,
    Key,
    Level,
    Mark,
    Scale,
    Size,
    dash,
    in_percent,
    in_whole_numbers,
    name_marks,
    name_x,
    set_scale,
    thousands,
)

MANY = 10_000
"""From which on thousands are set apart along the x axis."""
LEAST_SHARE = 0.02
"""At which an axis of shares ends at the earliest."""
BELOW = 0.04
"""Of that axis below 0 where all is 0: a line of zeros is seen above the axis, not on it."""
RAW_ALPHA, BAND_ALPHA = 0.3, 0.18
LINE_WIDTH = 1.7
NAMED_MARGIN = 0.07
"""Of the x axis, to either side of points with names; of the y axis twice as much."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """A line, or points.

    Attributes:
        label: In the legend; empty: not there.
        place: Of its colour.
        x, y: float [N].
        low, high: float [N], a band around it, NaN where there is none.
        raw: x and y, float [M], of what the line smooths.
        has_points: Whether its points are marked; those of a line of few points are anyway.
        is_dashed: Whether the line is.
        names: Of its points; empty, or N.
    """

    label: str
    place: int
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    raw: tuple[np.ndarray, np.ndarray] | None = None
    has_points: bool = False
    is_dashed: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines over an axis.

    Attributes:
        title: The y axis, with its unit.
        x: The x axis, with its unit.
        lines: At least one.
        marks: Across the picture.
        levels: Along it.
        scale: Of the x axis.
        y_range: Of the y axis; None: what the lines need.
        x_range: The same of the x axis, for panels that stand below one another.
        is_percent: Whether y is a share, shown in percent.
        size: See `Panel`.
    """

    title: str
    x: str
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    levels: tuple[Level, ...] = ()
    scale: Scale = "linear"
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    is_percent: bool = False
    size: Size = "small"

    @property
    def inches(self) -> tuple[float, float]:
        """See `Panel`."""
        return INCHES[self.size]

    @property
    def margins(self) -> tuple[float, float] | None:
        """See `Panel`."""
        return MARGINS

    def legend(self) -> Sequence[Key]:
        """See `Panel`."""
        return [
            Key(label=line.label, place=line.place, is_dashed=line.is_dashed)
            for line in self.lines
            if line.label
        ]

    def draw(self, axes: Any, ink: Ink) -> None:
        """See `Panel`."""
        set_scale(axes, self.scale)
        for mark in self.marks:
            colour = ink.faint if mark.place is None else ink.of(mark.place)
            axes.axvline(mark.at, color=colour, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        for level in self.levels:
            axes.axhline(level.at, color=ink.faint, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for line in self.lines:
            _draw_line(axes, line, ink)
            _name_points(axes, line, [one for one in self.lines if one is not line], ink)
        if any(line.names for line in self.lines):
            axes.margins(x=NAMED_MARGIN, y=2 * NAMED_MARGIN)
        name_x(axes, self.x, self.size)
        if self.y_range is not None:
            axes.set_ylim(*self.y_range)
        if self.x_range is not None:
            axes.set_xlim(*self.x_range)
        if self.is_percent:
            in_percent(axes.yaxis)
            top = max(axes.get_ylim()[1], LEAST_SHARE)
            is_flat = not any(np.nan_to_num(line.y).any() for line in self.lines)
            axes.set_ylim(-BELOW * top if is_flat else 0.0, top)
        if self.x.startswith("learner step"):
            in_whole_numbers(axes.xaxis)
        if self.scale == "linear" and axes.get_xlim()[1] >= MANY:
            axes.xaxis.set_major_formatter(thousands)
        name_marks(axes, self.marks, ink)


def _draw_line(axes: Any, line: Line, ink: Ink) -> None:
    colour = ink.of(line.place)
    if line.raw is not None:
        axes.plot(*line.raw, color=colour, alpha=RAW_ALPHA, linewidth=0.9, zorder=2)
    if line.low is not None and line.high is not None:
        axes.fill_between(
            line.x, line.low, line.high, color=colour, alpha=BAND_ALPHA, linewidth=0, zorder=2
        )
    is_marked = line.has_points or len(line.x) <= 12
    axes.plot(
        line.x,
        line.y,
        color=colour,
        linewidth=LINE_WIDTH,
        linestyle=dash(line.place, line.is_dashed),
        marker="o" if is_marked else None,
        markersize=3.6,
        zorder=3,
    )


def _name_points(axes: Any, line: Line, others: Sequence[Line], ink: Ink) -> None:
    """Above where the line lies highest of all, else below: two of about equal height stay apart,
    also where they cross."""
    for x, y, name in zip(line.x, line.y, line.names, strict=False):
        is_topmost = all(_height(other, x) <= y for other in others if other.names)
        axes.annotate(
            name,
            (x, y),
            (0, 5 if is_topmost else -5),
            textcoords="offset points",
            ha="center",
            va="bottom" if is_topmost else "top",
            fontsize=SMALL_TEXT,
            color=ink.text,
        )


def _height(line: Line, x: float) -> float:
    """Of a line at a place; of one that does not reach so far, nothing."""
    return float(np.interp(x, line.x, line.y, left=-np.inf, right=-np.inf))

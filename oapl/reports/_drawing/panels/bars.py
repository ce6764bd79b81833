"""Bars by category, and wholes in pieces."""

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
    Size,
    in_percent,
    inches_of,
    name_x,
    shortened,
    thousands,
    wrapped,
)

LINE_INCHES = 0.17
BAR_HEIGHT = 0.55
"""Of the room of a row."""
MOST_LABELLED: dict[Size, int] = {"small": 14, "wide": 36}
"""Bars above which their values are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarGroup:
    """Bars of one colour, one per category.

    Attributes:
        label: In the legend.
        place: Of the colour.
        values: float [C]; NaN where there is none.
        errors: float [C], standard errors; NaN where there is none.
    """

    label: str
    place: int
    values: tuple[float, ...]
    errors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Bars, in groups by category.

    Attributes:
        title: The y axis, with its unit.
        x: What the categories are.
        categories: C names.
        groups: At least one.
        is_percent: Whether values are shares, shown in percent.
        size: See `Panel`.
    """

    title: str
    x: str
    categories: tuple[str, ...]
    groups: tuple[BarGroup, ...]
    is_percent: bool = False
    size: Size = "small"

    @property
    def inches(self) -> tuple[float, float]:
        """See `Panel`."""
        return INCHES[self.size]

    @property
    def margins(self) -> tuple[float, float] | None:
        """See `Panel`."""
        lines = max(name.count("\n") for name in wrapped(self.categories)) + bool(self.x)
        return MARGINS[0], MARGINS[1] + LINE_INCHES * (lines - 1)

    def legend(self) -> Sequence[Key]:
        """See `Panel`."""
        return [Key(label=group.label, place=group.place) for group in self.groups if group.label]

    def draw(self, axes: Any, ink: Ink) -> None:
        """See `Panel`."""
        width = 0.8 / len(self.groups)
        is_labelled = len(self.groups) * len(self.categories) <= MOST_LABELLED[self.size]
        top = bottom = 0.0
        for number, group in enumerate(self.groups):
            at = np.arange(len(self.categories)) + (number - (len(self.groups) - 1) / 2) * width
            values, errors = np.array(group.values), np.array(group.errors or np.nan)
            axes.bar(at, np.nan_to_num(values), 0.92 * width, color=ink.of(group.place), zorder=2)
            spread = np.broadcast_to(errors, values.shape)
            known = np.isfinite(values) & np.isfinite(spread)
            if known.any():
                axes.errorbar(
                    at[known],
                    values[known],
                    spread[known],
                    fmt="none",
                    ecolor=ink.text,
                    elinewidth=1,
                )
            ends = np.nan_to_num(values + np.copysign(np.nan_to_num(spread), values))
            top = max(top, float(ends.max(initial=0.0)))
            bottom = min(bottom, float(ends.min(initial=0.0)))
            if is_labelled:
                _label_bars(axes, at, values, ends, self.is_percent, ink)
        axes.set_xticks(range(len(self.categories)), wrapped(self.categories))
        axes.set_ylim(1.12 * bottom, 1.12 * top or 1.0)
        name_x(axes, self.x, self.size)
        axes.grid(axis="x", visible=False)
        if self.is_percent:
            in_percent(axes.yaxis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """A whole in pieces, one bar for each whole.

    Attributes:
        title: What the whole is.
        x: Its unit.
        wholes: Names of the bars, from the top.
        pieces: Each with a value per whole.
        size: See `Panel`.
    """

    title: str
    x: str
    wholes: tuple[str, ...]
    pieces: tuple[BarGroup, ...]
    size: Size = "wide"

    @property
    def inches(self) -> tuple[float, float]:
        """See `Panel`."""
        return inches_of(len(self.wholes))

    @property
    def margins(self) -> tuple[float, float] | None:
        """See `Panel`."""
        return None

    def legend(self) -> Sequence[Key]:
        """See `Panel`."""
        return [Key(label=piece.label, place=piece.place) for piece in self.pieces]

    def draw(self, axes: Any, ink: Ink) -> None:
        """See `Panel`."""
        rows = np.arange(len(self.wholes))[::-1]
        left = np.zeros(len(self.wholes))
        for piece in self.pieces:
            values = np.array(piece.values)
            axes.barh(rows, values, BAR_HEIGHT, left=left, color=ink.of(piece.place), zorder=2)
            left = left + values
        axes.set_yticks(rows, [shortened(name) for name in self.wholes])
        axes.set_ylim(-0.6, len(self.wholes) - 0.4)
        name_x(axes, self.x, self.size)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(thousands)


def _label_bars(
    axes: Any, at: np.ndarray, values: np.ndarray, ends: np.ndarray, is_percent: bool, ink: Ink
) -> None:
    for x, value, end in zip(at, values, ends, strict=True):
        if np.isfinite(value):
            axes.annotate(
                f"{100 * value:.1f}" if is_percent else f"{value:.3g}",
                (x, end),
                (0, 2 if value >= 0 else -2),
                textcoords="offset points",
                ha="center",
                va="bottom" if value >= 0 else "top",
                fontsize=SMALL_TEXT,
                color=ink.text,
            )

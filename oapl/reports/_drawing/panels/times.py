"""What a time went to, and what happened when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oapl.reports._drawing.ink import Ink
from oapl.reports._drawing.panels.base import (
    INCHES,
    MARGINS,
    Key,
    Mark,
    Size,
    in_percent,
    inches_of,
    name_marks,
    name_x,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A layer of a stack.

    Attributes:
        label: In the legend.
        place: Of the colour.
        values: float [N], of each stretch.
    """

    label: str
    place: int
    values: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """What a whole is made of, stretch by stretch.

    Attributes:
        title: What the whole is.
        x: The x axis, with its unit.
        edges: float [N + 1], of the stretches.
        parts: Each with N values.
        marks: Across the picture.
        size: See `Panel`.
    """

    title: str
    x: str
    edges: np.ndarray
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...] = ()
    size: Size = "wide"

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
        return [Key(label=part.label, place=part.place) for part in self.parts]

    def draw(self, axes: Any, ink: Ink) -> None:
        """See `Panel`."""
        below = np.zeros(len(self.edges) - 1)
        for part in self.parts:
            axes.stairs(
                below + part.values,
                self.edges,
                baseline=below,
                fill=True,
                color=ink.of(part.place),
                linewidth=0,
            )
            below = below + part.values
        for mark in self.marks:
            axes.axvline(mark.at, color=ink.text, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set_xlim(float(self.edges[0]), float(self.edges[-1]))
        axes.set_ylim(0, max(1.0, float(below.max(initial=0.0))))
        name_x(axes, self.x, self.size)
        in_percent(axes.yaxis)
        name_marks(axes, self.marks, ink)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What happened of one kind.

    Attributes:
        label: Which kind.
        place: Of the colour.
        at: When, in the axis' unit.
        weights: How many each time; empty: one.
    """

    label: str
    place: int
    at: tuple[float, ...]
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """What happened when, a lane for each kind.

    Attributes:
        title: What is seen.
        x: The x axis, with its unit.
        lanes: From the top.
        x_range: Of the axis.
        marks: Across the picture.
        size: See `Panel`.
    """

    title: str
    x: str
    lanes: tuple[Lane, ...]
    x_range: tuple[float, float]
    marks: tuple[Mark, ...] = ()
    size: Size = "wide"

    @property
    def inches(self) -> tuple[float, float]:
        """See `Panel`."""
        return inches_of(len(self.lanes))

    @property
    def margins(self) -> tuple[float, float] | None:
        """See `Panel`."""
        return None

    def legend(self) -> Sequence[Key]:
        """See `Panel`: the lanes are named where they lie."""
        return []

    def draw(self, axes: Any, ink: Ink) -> None:
        """See `Panel`."""
        for row, lane in enumerate(reversed(self.lanes)):
            weights = np.array(lane.weights or [1.0] * len(lane.at))
            axes.scatter(
                lane.at,
                [row] * len(lane.at),
                s=26 + 14 * np.log2(np.maximum(weights, 1.0)),
                marker="d",
                color=ink.of(lane.place),
                zorder=3,
            )
        for mark in self.marks:
            axes.axvline(mark.at, color=ink.faint, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set_yticks(range(len(self.lanes)), [lane.label for lane in reversed(self.lanes)])
        axes.set_ylim(-0.6, len(self.lanes) - 0.4)
        axes.set_xlim(*self.x_range)
        name_x(axes, self.x, self.size)
        name_marks(axes, self.marks, ink)

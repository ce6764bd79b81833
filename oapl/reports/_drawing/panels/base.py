"""What the panels share: their Protocol, what stands across them, and how axes are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from oapl.reports._drawing.ink import NUM_COLOURS, Ink

Scale = Literal["linear", "log2", "log10"]
Size = Literal["small", "wide"]
INCHES: dict[Size, tuple[float, float]] = {"small": (5.6, 3.3), "wide": (12.5, 3.0)}
ROW_INCHES, LEAST_INCHES = 0.32, 1.5
"""Of a picture whose height follows from its rows."""
MARGINS = (0.68, 0.5)
"""Inches left of and below the axes: room for numbers of seven letters, and for two lines."""
SMALL_TEXT = 8.0
MOST_NAMED_MARKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a colour means.

    Attributes:
        label: In words.
        place: Of the colour.
        is_dashed: Whether its line is.
    """

    label: str
    place: int
    is_dashed: bool = False


class Panel(Protocol):
    """One picture."""

    @property
    def title(self) -> str:
        """What is seen, with its unit."""

    @property
    def size(self) -> Size:
        """How much room it needs."""

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height of the picture."""

    @property
    def margins(self) -> tuple[float, float] | None:
        """Inches left of and below the axes; None: to be measured, which takes as long again as
        the drawing."""

    def legend(self) -> Sequence[Key]:
        """What its colours mean; of a single colour that the title explains, nothing."""

    def draw(self, axes: Any, ink: Ink) -> None:
        """Draw it.

        Args:
            axes: Of matplotlib, empty.
            ink: Colours.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place on the x axis at which something happened.

    Attributes:
        at: In the axis' unit.
        name: What; empty where it needs no word.
        place: Of its colour; None: that of what stands back.
    """

    at: float
    name: str = ""
    place: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A height that is looked for.

    Attributes:
        at: In the y axis' unit.
        name: What it is.
    """

    at: float
    name: str = ""


def dash(place: int, is_dashed: bool) -> Any:
    """The style of a line, as matplotlib has it: colours that come again are dotted.

    Args:
        place: Of the colour.
        is_dashed: Whether it is dashed.
    """
    if place < NUM_COLOURS:
        return (0, (5, 2)) if is_dashed else "-"
    return (0, (5, 1, 1, 1)) if is_dashed else (0, (1, 1))


def inches_of(rows: int) -> tuple[float, float]:
    """Give the size of a wide picture whose height follows from its rows."""
    return INCHES["wide"][0], max(LEAST_INCHES, 0.75 + ROW_INCHES * rows)


def name_marks(axes: Any, marks: Sequence[Mark], ink: Ink) -> None:
    """Write the marks' names upright at the top, each beside its line.

    Args:
        axes: Of matplotlib.
        marks: Too many are not named.
        ink: Colours.
    """
    named = [mark for mark in marks if mark.name]
    if len(named) > MOST_NAMED_MARKS:
        return
    for mark in named:
        axes.annotate(
            mark.name,
            (mark.at, 1.0),
            (2, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            va="top",
            ha="left",
            fontsize=SMALL_TEXT,
            color=ink.faint,
        )


def name_x(axes: Any, name: str, size: Size) -> None:
    """Name the x axis: of a wide picture at its left, which a narrow screen shows first.

    Args:
        axes: Of matplotlib.
        name: With its unit.
        size: Of the picture.
    """
    axes.set_xlabel(name, loc="left" if size == "wide" else "center")


def set_scale(axes: Any, scale: Scale) -> None:
    """Scale the x axis, and write its numbers plainly.

    Args:
        axes: Of matplotlib.
        scale: Of the axis.
    """
    if scale == "linear":
        return
    from matplotlib.ticker import LogLocator, NullLocator

    base, parts = (2, (1.0,)) if scale == "log2" else (10, (1.0, 2.0, 5.0))
    axes.set_xscale("log", base=base)
    axes.xaxis.set_major_locator(LogLocator(base=base, subs=parts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(thousands)


def in_percent(axis: Any) -> None:
    """Write shares of an axis in percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def in_whole_numbers(axis: Any) -> None:
    """Write whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def thousands(value: float, _: object) -> str:
    """Write a number with its thousands set apart.

    Args:
        value: The number.
        _: Its place among those of the axis.
    """
    return f"{value:,.0f}"


def shortened(name: str, length: int = 36) -> str:
    """Give the end of a long name, which tells it from others.

    Args:
        name: Any.
        length: Letters that it may have.
    """
    return name if len(name) <= length else f"…{name[-length:]}"


def wrapped(names: Sequence[str], width: int = 16) -> list[str]:
    """Give names in lines of so many letters, for below an axis.

    Args:
        names: Any.
        width: Letters of a line.
    """
    import textwrap

    return ["\n".join(textwrap.wrap(name, width)) or name for name in names]

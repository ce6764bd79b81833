"""How figures are written, and what the live view is drawn of: sparks, bars, columns of names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

DASH = "–"
BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24
BAR_WIDTH = 16
LEAST_BAR = 4
Rows = Sequence[tuple[str, RenderableType]]


def figure(value: float) -> str:
    """Write four significant digits, thousands set apart, tiny ones with an exponent."""
    size = abs(value)
    if size >= 1000 and math.isfinite(value):
        return f"{value:,.0f}"
    if 0 < size < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Write a time as `1:02:03`; a dash for one that is not known."""
    if seconds is None:
        return DASH
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def sparkline(values: Iterable[float], width: int) -> str:
    """Draw a curve of block letters: means of equal stretches, from the lowest to the highest.

    Args:
        values: The curve; fewer than two make an empty string.
        width: Letters at most.
    """
    numbers = list(values)
    if len(numbers) < 2:
        return ""
    width = min(width, len(numbers))
    edges = [round(index * len(numbers) / width) for index in range(width + 1)]
    means = [
        math.fsum(numbers[edges[i] : edges[i + 1]]) / (edges[i + 1] - edges[i])
        for i in range(width)
    ]
    low, span = min(means), max(means) - min(means)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((m - low) / span * top) if span else top // 2] for m in means)


def pairs(title: str, rows: Rows) -> Table:
    """Draw names and what belongs to them, one below the other.

    Args:
        title: Above them.
        rows: Of them.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=max(len(name) for name, _ in rows))
    table.add_column(no_wrap=True)
    table.add_row(Text(title, style="bold cyan"), "")
    for name, value in rows:
        table.add_row(name, value)
    return table


def bar(share: float, text: str, style: str, room: int) -> RenderableType:
    """Draw a share, and what it is in words; where there is little room the words alone.

    Args:
        share: 0 to 1.
        text: Behind the bar.
        style: Of the bar.
        room: Letters that there are.
    """
    width = min(BAR_WIDTH, room - len(text) - 1)
    if width < LEAST_BAR:
        return Text(text)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        ProgressBar(
            total=1.0, completed=share, width=width, complete_style=style, finished_style=style
        ),
        Text(text),
    )
    return grid

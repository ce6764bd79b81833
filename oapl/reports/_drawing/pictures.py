"""Panels as pictures: SVG that the page colours, and PNG.

Invariants: the same panel gives the same bytes; an SVG refers to nothing outside of itself, its ids
are those of no other picture of the page, and its words are text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oapl.reports._drawing.ink import LIGHT, STAND_INS, Ink, on_page
from oapl.reports._drawing.panels import Key, Panel, dash
from oapl.reports._drawing.texts import Table

FONT_SIZE = 10.5
RIGHT_INCHES, TOP_INCHES = 0.24, 0.2
PNG_DPI = 160
HANDLE_LENGTH = 3.0
"""Of the lines of a legend, in letters: room for two dashes."""
COLUMNS = 3
"""Of small panels in a file."""
_GROUP_ID = re.compile(r'<g id="[^"]*">')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_PLACES = re.compile(r"(\d+\.\d{2})\d+")
_TAG = re.compile(r"<[^>]*>")
_HEAD = re.compile(r"^.*?<svg ", re.DOTALL)
_SIZE = re.compile(r'<svg ([^>]*?)width="[^"]*pt" height="[^"]*pt"')


def svg(panel: Panel, name: str) -> str:
    """Draw a panel for the page.

    Args:
        panel: What is seen.
        name: Unlike that of any other picture of the page.

    Returns:
        An `<svg>` element, its colours CSS variables (`ink.variables`).
    """
    from matplotlib.figure import Figure

    with _style(STAND_INS, name):
        figure = Figure(figsize=panel.inches, layout=None if panel.margins else "constrained")
        axes = figure.subplots()
        if panel.margins:
            _set_margins(figure, panel.inches, panel.margins)
        panel.draw(axes, STAND_INS)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return on_page(_lean(text.getvalue()))


def save(panels: Sequence[Panel], path: Path, title: str, ink: Ink = LIGHT) -> None:
    """Draw panels into one file, with their titles and a legend.

    Args:
        panels: At least one.
        path: Of the file; its ending says whether it is a PNG or an SVG.
        title: Above them.
        ink: Colours.
    """
    from matplotlib.figure import Figure

    wide = any(panel.size == "wide" for panel in panels)
    columns = 1 if wide else 2 if len(panels) == 4 else min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    sizes = [panel.inches for panel in panels]
    width, height = (max(size[i] for size in sizes) for i in (0, 1))
    keys = keys_of(panels)
    with _style(ink, title):
        height_of_all = rows * height + 0.5 + 0.25 * bool(keys)
        figure = Figure(figsize=(columns * width, height_of_all), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            panel.draw(axes, ink)
            axes.set_title(panel.title, loc="left", fontsize=FONT_SIZE)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        figure.suptitle(title, fontsize=FONT_SIZE + 2, color=ink.text)
        if keys:
            _add_legend(figure, keys, ink, loc="outside lower center")
        elif keys is None:
            for axes, panel in zip(grid.flat, panels, strict=False):
                _add_legend(axes, panel.legend(), ink, loc="upper left", bbox_to_anchor=(0, -0.25))
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=PNG_DPI, facecolor=ink.paper, metadata=metadata)


def _add_legend(where: Any, keys: Sequence[Key], ink: Ink, **place: Any) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D(
            [], [], color=ink.of(key.place), linewidth=3, linestyle=dash(key.place, key.is_dashed)
        )
        for key in keys
    ]
    labels = [key.label for key in keys]
    columns = min(4, max(1, len(keys)))
    where.legend(lines, labels, ncols=columns, handlelength=HANDLE_LENGTH, **place)


def table_png(table: Table, path: Path, title: str, ink: Ink = LIGHT) -> None:
    """Draw a table into a PNG, the best of a column bold, the second underlined.

    Args:
        table: What is read.
        path: Of the file.
        title: Above it.
        ink: Colours.
    """
    from matplotlib.figure import Figure

    texts = [list(table.columns), *([cell.text for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in texts) + 3 for i in range(len(table.columns))]
    total = sum(widths)
    with _style(ink, title):
        figure = Figure(figsize=(0.1 * total + 0.4, 0.28 * len(texts) + 0.7))
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, total)
        axes.set_ylim(len(texts) + 0.2, -1.2)
        axes.text(0, -0.8, title, fontsize=FONT_SIZE + 1, color=ink.text)
        for number, row in enumerate(texts):
            for column, text in enumerate(row):
                mark = table.rows[number - 1][column].mark if number else ""
                is_bold = number == 0 or mark == "best"
                axes.text(
                    sum(widths[:column]),
                    number + 0.2,
                    text,
                    color=ink.text,
                    fontweight="bold" if is_bold else "normal",
                    va="center",
                )
                if mark == "second":
                    start = sum(widths[:column])
                    axes.plot(
                        [start, start + len(text)],
                        [number + 0.55] * 2,
                        color=ink.text,
                        lw=0.8,
                    )
        axes.axhline(0.7, color=ink.faint, linewidth=0.8)
        figure.savefig(path, dpi=PNG_DPI, facecolor=ink.paper, bbox_inches="tight")


def keys_of(panels: Sequence[Panel]) -> list[Key] | None:
    """What the colours of several panels mean, each once; None where one means this in one panel
    and that in another, so that each needs a legend of its own."""
    found = {(key.place, key.is_dashed, key.label): key for one in panels for key in one.legend()}
    colours = {(place, is_dashed) for place, is_dashed, _ in found}
    return list(found.values()) if len(colours) == len(found) else None


def _set_margins(figure: Any, size: tuple[float, float], margins: tuple[float, float]) -> None:
    (width, height), (left, bottom) = size, margins
    figure.subplots_adjust(
        left=left / width,
        bottom=bottom / height,
        right=1 - RIGHT_INCHES / width,
        top=1 - TOP_INCHES / height,
    )


@contextmanager
def _style(ink: Ink, salt: str) -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "font.size": FONT_SIZE,
            "font.family": "sans-serif",
            "text.color": ink.text,
            "text.parse_math": False,
            "axes.edgecolor": ink.faint,
            "axes.facecolor": "none",
            "axes.labelcolor": ink.text,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.formatter.useoffset": False,
            "axes.xmargin": 0.02,
            "grid.color": ink.grid,
            "grid.linewidth": 0.7,
            "xtick.color": ink.faint,
            "ytick.color": ink.faint,
            "xtick.labelcolor": ink.text,
            "ytick.labelcolor": ink.text,
            "legend.frameon": False,
            "figure.facecolor": ink.paper,
            "path.simplify_threshold": 0.4,
        }
    ):
        yield


def _lean(text: str) -> str:
    """Without header, metadata, fixed size, names of groups, and digits of places that nobody can
    see; those of words stay."""
    text = _METADATA.sub("", text)
    text = _HEAD.sub("<svg ", text)
    text = _SIZE.sub(r"<svg \1", text)
    text = _GROUP_ID.sub("<g>", text)
    return _TAG.sub(lambda tag: _PLACES.sub(r"\1", tag[0]), text)

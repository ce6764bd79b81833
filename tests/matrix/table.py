"""The matrix as Markdown and as JSON; cells that are not made yet are shown as open."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl.whole_files import written_aside
from tests.matrix.plan import BLOCKS, GROUP_SIZE, GROUPS
from tests.matrix.records import ERRORS, LEVEL, Block, Cell, Column, Place

OPEN = "open"
DOCUMENT = Path(__file__).parents[2] / "docs" / "learning-matrix.md"
HEAD = """# Methods side by side

Written by `python -m tests.matrix` from the files of `tests/matrix/cells`, each with its commit and
processor; `--minutes 0` makes no cell and writes it anew. What it shows, and what it does not, is
in the README.
"""
COLUMNS = (
    Column(heading="mean@8", of=lambda cell: cell.mean, form="{:.3f}"),
    Column(heading="lowest", of=lambda cell: cell.lowest, form="{:.3f}"),
    Column(heading="pass@8", of=lambda cell: cell.pass_at_8, form="{:.3f}"),
    Column(heading="greedy", of=lambda cell: cell.greedy, form="{:.3f}"),
    Column(heading="entropy", of=lambda cell: cell.entropy, form="{:.3f}"),
    Column(heading="length", of=lambda cell: cell.length, form="{:.1f}"),
    Column(
        heading=f"rollouts to {LEVEL:g}",
        of=lambda cell: cell.to_level(lambda point: point.rollouts),
        form="{:,.0f}",
    ),
    Column(
        heading=f"seconds to {LEVEL:g}",
        of=lambda cell: cell.to_level(lambda point: point.seconds),
        form="{:,.0f}",
    ),
)
NOTES = (
    f"From one warm start, {GROUP_SIZE * GROUPS:,} rollouts a cell. Mean over seeds and its "
    "standard error; with one seed the error of mean@8 is that over problems.",
    "Lowest: the least mean@8 of a seed's evaluations, the one before training included.",
    "Entropy: nats a token of the samples, -ln p as the engine has it. Length: tokens a sample.",
    f"Rollouts and seconds until mean@8 is {LEVEL:g}, on a straight line between evaluations; a "
    "set's rollouts all count before its first step, and its seconds include the command's start.",
    f"Collapsed: mean@8 ends below where it began by more than {ERRORS:g} standard errors of the "
    "difference, or at less than half of its best, or rewards of 16 steps do.",
)


def markdown(cells: Sequence[Cell], places: Sequence[Place]) -> str:
    """All tables, and what their columns mean.

    Args:
        cells: That are made.
        places: Of all cells of the slice.
    """
    parts = [_of_block(block, cells, places) for block in BLOCKS]
    notes = "\n".join(f"- {note}" for note in (*NOTES, *_before(cells)))
    return "\n\n".join([*filter(None, parts), notes]) + "\n"


def document(cells: Sequence[Cell], places: Sequence[Place]) -> str:
    """`DOCUMENT`; see `markdown`."""
    return f"{HEAD}\n{markdown(cells, places)}"


def _before(cells: Sequence[Cell]) -> Iterator[str]:
    if cells:
        first = [cell.curve[0].mean for cell in cells]
        yield f"Before training: mean@8 {_with_error(first, '{:.3f}')} over the cells."


def _of_block(block: Block, cells: Sequence[Cell], places: Sequence[Place]) -> str:
    """Its table; empty where the slice has nothing of it."""
    headings = ["method", "L", "seeds", *(column.heading for column in COLUMNS), "collapsed"]
    rows: dict[tuple[str, int], list[Place]] = {}
    for place in places:
        if place.block == block.name:
            rows.setdefault((place.method, place.lag), []).append(place)
    if not rows:
        return ""
    order = [method.name for method in block.methods]
    lines = [headings, ["---"] * len(headings)]
    for method, lag in sorted(rows, key=lambda row: (row[1], order.index(row[0]))):
        mine, asked = rows[method, lag], {place.seed for place in rows[method, lag]}
        made = [cell for cell in cells if cell.place in mine]
        seeds = f"{len(made)} of {len(asked)}"
        figures = _figures(made) if made else [OPEN] * (len(COLUMNS) + 1)
        lines.append([method, str(lag or "-"), seeds, *figures])
    return f"### {block.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(made: Sequence[Cell]) -> list[str]:
    return [*(_figure(column, made) for column in COLUMNS), _share(made)]


def _figure(column: Column, made: Sequence[Cell]) -> str:
    values = [value for cell in made if (value := column.of(cell)) is not None]
    if not values:
        return "never"
    if len(made) == 1 and column.heading == "mean@8":
        return f"{column.form.format(values[0])} +- {made[0].curve[-1].error:.3f}"
    reached = "" if len(values) == len(made) else f" ({len(values)} of {len(made)})"
    return _with_error(values, column.form) + reached


def _with_error(values: Sequence[float], form: str) -> str:
    middle = sum(values) / len(values)
    if len(values) == 1:
        return form.format(middle)
    spread = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return f"{form.format(middle)} +- {form.format(math.sqrt(spread / len(values)))}"


def _share(made: Sequence[Cell]) -> str:
    fallen = sum(cell.has_collapsed for cell in made)
    return f"{fallen} of {len(made)}" if fallen else "no"


def as_json(cells: Sequence[Cell], places: Sequence[Place]) -> dict[str, Any]:
    """All cells in the order of their making, with what they are compared by.

    Args:
        cells: That are made.
        places: Of all cells of the slice.
    """
    by_place = {cell.place: cell for cell in cells}
    return {
        "notes": NOTES,
        "cells": [_row(place, by_place.get(place)) for place in places],
    }


def _row(place: Place, cell: Cell | None) -> Mapping[str, Any]:
    if cell is None:
        return {"place": dataclasses.asdict(place), OPEN: True}
    figures = {column.heading: column.of(cell) for column in COLUMNS}
    return {
        **dataclasses.asdict(cell),
        OPEN: False,
        "has_collapsed": cell.has_collapsed,
        "figures": figures,
    }


def write(folder: Path, which: str, cells: Sequence[Cell], places: Sequence[Place]) -> None:
    """Both forms, each whole or not at all.

    Args:
        folder: Gets them.
        which: Slice, their name.
        cells: That are made.
        places: Of all cells of the slice.
    """
    for name, text in (
        (f"{which}.md", markdown(cells, places)),
        (f"{which}.json", json.dumps(as_json(cells, places), indent=1) + "\n"),
    ):
        with written_aside(folder / name) as part:
            part.write_text(text)

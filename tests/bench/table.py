"""What a bench says: a row per figure, as a table for people and as JSON to compare runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison of one run.

    Attributes:
        what: The figure, in words.
        model: What it was measured with.
        ours, theirs: The two figures, in `unit`; theirs is the raw part beside which ours stands.
        ratio: What the bar is about.
        bar: The ratio that is asked for, or None where it is only stated.
        at_least: The ratio must reach the bar; False: stay below it.
        parts: What ours is made of, name to figure.
        left_out: Why it was not measured; empty where it was.
    """

    what: str
    model: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    bar: float | None = None
    at_least: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)
    left_out: str = ""

    @property
    def verdict(self) -> str:
        if self.left_out:
            return "left out"
        if self.bar is None:
            return ""
        is_met = self.ratio >= self.bar if self.at_least else self.ratio <= self.bar
        return "met" if is_met else "MISSED"


def left_out(what: str, model: str, why: str) -> Row:
    """A figure that is not measured here."""
    return Row(what=what, model=model, ours=0.0, theirs=0.0, unit="", ratio=0.0, left_out=why)


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table("figure", "model", "ours", "beside", "unit", "ratio", "bar", "")
    for row in rows:
        bar = "" if row.bar is None else f"{'>=' if row.at_least else '<='} {row.bar:g}"
        figures = (row.ours, row.theirs, row.ratio)
        ours, theirs, ratio = ("" if row.left_out else f"{x:,.4g}" for x in figures)
        table.add_row(row.what, row.model, ours, theirs, row.unit, ratio, bar, row.verdict)
    console.print(table)
    for row in rows:
        if row.left_out:
            console.print(f"{row.what} ({row.model}): left out, {row.left_out}")
        if row.parts:
            parts = ", ".join(f"{name} {value:,.4g}" for name, value in row.parts.items())
            console.print(f"{row.what} ({row.model}): {parts}")


def load(path: Path) -> list[Row]:
    return [Row(**row) for row in json.loads(path.read_text())]


def save(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


def main(measure: Callable[[Path, str], list[Row]]) -> None:
    """A bench as a program: `python -m tests.bench.NAME [MODEL] [--json FILE]`.

    Without a model it makes the quickstart's, untrained.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, help="a model's folder")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("OAPL_BENCH_FOLDER", folder)
        model, name = options.model, ""
        if model is None:
            from deploy.commands.quickstart import prepare

            model, name = prepare(Path(folder) / "start", seed=0) / "model", "quickstart"
        rows = measure(model, name or model.name)
    show(rows, Console())
    if options.json:
        save(rows, options.json)

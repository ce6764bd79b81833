"""`make lag`: objectives side by side at a policy lag of up to fifteen steps, cell by cell.

    python -m tests.lag [FOLDER] [--minutes 15]

One warm start, the quickstart's; then for each objective and seed 96 learner steps on equal numbers
of rollouts, published every 16. A finished cell stands in FOLDER/cells.json (build/lag), and the
next call goes on where this one ended: none is begun that would not end within the minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.launch import start_local_ray
from tests.lag.cells import INTERVAL, OBJECTIVES, SEEDS, STEPS, Cell, train
from tests.learning import warm

LONGEST_S = 150.0
"""Of a cell, before one is known."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/lag"))
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    ends_at, console = time.monotonic() + 60 * options.minutes, Console()
    path = options.folder / "cells.json"
    cells = load(path)
    missing = [
        (objective, seed)
        for seed in SEEDS
        for objective in OBJECTIVES
        if not any((c.objective, c.seed) == (objective, seed) for c in cells)
    ]
    if missing:
        ray = start_local_ray(num_cpus=4)
        start, model = warm_start(options.folder)
        for objective, seed in missing:
            longest = max((cell.seconds for cell in cells), default=LONGEST_S)
            if time.monotonic() + longest > ends_at:
                break
            cells.append(train(options.folder, start, model, objective, seed))
            save(cells, path)
            console.print(f"{objective}, seed {seed}: {words(cells[-1])}")
        ray.shutdown()
    show(cells, console)
    if left := len(OBJECTIVES) * len(SEEDS) - len(cells):
        console.print(f"{left} of {len(OBJECTIVES) * len(SEEDS)} cells are left: run it again")


def warm_start(folder: Path) -> tuple[Path, Path]:
    """Problems and the model that all cells begin with, made once and to the end."""
    made, done = folder / "warm", folder / "warm" / "done"
    if not done.is_file():
        shutil.rmtree(made, ignore_errors=True)
        warm.warm_start(folder)
        done.touch()
    return made / "start", made / "sft" / "model"


def load(path: Path) -> list[Cell]:
    rows = json.loads(path.read_text()) if path.is_file() else []
    return [Cell(**{**row, "periods": tuple(row["periods"])}) for row in rows]


def save(cells: Sequence[Cell], path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1) + "\n")
    part.replace(path)


def show(cells: Sequence[Cell], console: Console) -> None:
    title = f"mean@8 after {STEPS} steps, L = {INTERVAL}, from one warm start"
    table = Table("objective", *(f"seed {seed}" for seed in SEEDS), "mean", "groups", title=title)
    for objective in OBJECTIVES:
        row = {cell.seed: cell for cell in cells if cell.objective == objective}
        columns = [words(row[seed]) if seed in row else "" for seed in SEEDS]
        groups = ", ".join(str(cell.groups) for cell in row.values())
        table.add_row(objective, *columns, mean(list(row.values())), groups)
    console.print(table)
    if cells:
        first = cells[0]
        largest = max(cell.largest_lag for cell in cells)
        console.print(
            f"before: {first.before:.3f} +- {first.before_error:.3f}; largest lag {largest}"
        )


def words(cell: Cell) -> str:
    end = ", collapsed" if cell.has_collapsed else ""
    return f"{cell.after:.3f} +- {cell.after_error:.3f}{end}"


def mean(cells: Sequence[Cell]) -> str:
    """With its standard error over seeds, where there are several."""
    if len(cells) < 2:
        return ""
    values = [cell.after for cell in cells]
    middle = sum(values) / len(values)
    spread = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return f"{middle:.3f} +- {math.sqrt(spread / len(values)):.3f}"


if __name__ == "__main__":
    main()

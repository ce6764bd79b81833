"""What is known of reasoning-gym's tasks: `tasks.csv`, a row per task, made by `make puzzles`.

Its figures are the library's own scorer's with default options, the highest of a few puzzles: for
the puzzle's own answer, for wrong ones (nothing, a word, "0", a number with a digit before and
behind it, the negative, "ANSWER or 7", another puzzle's answer), and for all wrong ones under this
project's `strict`. An empty cell could not be asked. `differs` says that the library by itself asks
other questions, or has other answers, in each process; sources of this project do not. This
project's verifier pays nothing for an empty answer, whatever the library does, nor for one that is
not plain (`inert`).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("tasks.csv")
WRONG = ("word", "zero", "longer", "negative", "hedged", "other")
"""Columns of wrong answers that a response may hold."""
MARKED = 0.5
"""A task that pays a wrong answer so much is named before a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row.

    Attributes:
        name: reasoning-gym's.
        cells: By column, as they were written.
    """

    name: str
    cells: Mapping[str, str]

    @property
    def wrong(self) -> float:
        """The most that a wrong answer gets."""
        return max(float(self.cells[name] or 0) for name in WRONG)


@functools.cache
def table() -> Mapping[str, Task]:
    """Every task by its name."""
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["task"]: Task(name=row["task"], cells=row) for row in rows}


def warning(tasks: Iterable[str]) -> str:
    """Name those of `tasks` whose scorers pay wrong answers; empty where none does."""
    known = [table()[name] for name in sorted(set(tasks)) if name in table()]
    marked = [task for task in known if task.wrong >= MARKED]
    if not marked:
        return ""
    named = ", ".join(f"{task.name} {task.wrong:.2g}" for task in marked)
    return (
        f"warning: the library's own scorers pay wrong answers up to so much: {named}; "
        "reward.options.reasoning_gym.strict = true pays right answers alone"
    )

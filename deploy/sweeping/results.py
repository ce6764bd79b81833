"""What became of the cells: read from their run folders, drawn as a table, written as CSV."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deploy.sweeping.grid import Cell
from oapl.comparison import score
from oapl.records import Metrics
from oapl.tracking import history
from oapl.tracking.lines import CLOCK
from oapl.tracking.names import STEP
from oapl.whole_files import written_aside

ATTEMPTS, TABLE = "attempts.jsonl", "sweep.csv"
"""In the folder of a sweep: when each command began and ended; the figures of all cells."""
DONE, FAILED, STOPPED, OPEN = "done", "failed", "stopped", "open"
REWARD = "reward/trained_mean"
LAST_SHARE = 0.1
"""Of the steps, whose rewards are told."""
FILE_WIDTH = 140
"""Of a line in a file, in characters."""
LONGEST_WORD = 24
"""A longer value is folded, to leave room for the figures."""
DASH = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation of a run.

    Attributes:
        step: Learner steps made before it.
        measure, score: See `oapl.comparison.before_after.score`.
        figures: All of them.
    """

    step: int
    measure: str
    score: float
    figures: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a cell.

    Attributes:
        outcome: `done`, `failed`, `stopped`, or `open` where it was not begun.
        steps: Learner steps made.
        seconds: Its commands took, those that were killed up to their last line of metrics.
        evaluations: In their order; the first is that before training.
        reward: Mean reward of what the last tenth of the steps was trained on.
        why: Why it failed.
    """

    cell: Cell
    outcome: str
    steps: int = 0
    seconds: float = 0.0
    evaluations: tuple[Evaluation, ...] = ()
    reward: float | None = None
    why: str = ""

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation after training had begun, the earliest of equal ones."""
        after = [found for found in self.evaluations if found.step]
        return max(after, key=lambda found: found.score, default=None)


def read(cell: Cell, folder: Path, outcome: str, *, seconds: float, why: str = "") -> Result:
    """Read what a run has written of itself.

    Args:
        cell: Of the grid.
        folder: Its run's.
        outcome: How its last command ended.
        seconds: See `Result`.
        why: It failed.
    """
    found = list(history.rows(folder))
    rewards = [row[REWARD] for row in found if row.get(REWARD) is not None]
    last = rewards[-max(1, round(LAST_SHARE * len(rewards))) :]
    return Result(
        cell=cell,
        outcome=outcome,
        steps=max((row[STEP] for row in found), default=0),
        seconds=seconds,
        evaluations=tuple(
            Evaluation(step=step, measure=told[0], score=told[1], figures=figures)
            for step, figures in history.evaluations(folder)
            if (told := score(figures)) is not None
        ),
        reward=statistics.fmean(last) if last else None,
        why=why,
    )


def seconds_of(sweep: Path, name: str) -> float:
    """Add up what a cell's commands took.

    Args:
        sweep: Its folder.
        name: The cell's.
    """
    lines = [line for line in _attempts(sweep) if line["cell"] == name]
    total = sum(line.get("seconds", 0.0) for line in lines)
    for line, after in zip(lines, [*lines, {}][1:], strict=True):
        if "began" in line and "seconds" not in after:
            total += _killed_s(sweep / name, line["began"], after.get("began", math.inf))
    return total


def note(sweep: Path, **attempt: Any) -> None:
    """Write down that a command begins (`cell`, `began`), or has ended (`cell`, `seconds`)."""
    with (sweep / ATTEMPTS).open("a") as file:
        file.write(json.dumps(attempt) + "\n")


def table(results: Sequence[Result], title: str) -> Table:
    """Draw what became of the cells.

    Args:
        results: In the order of the grid.
        title: Of the table.
    """
    keys = list(results[0].cell.settings)
    measure = next((r.evaluations[0].measure for r in results if r.evaluations), "")
    drawn = Table(title=title, box=box.SIMPLE_HEAVY)
    for key in keys:
        longest = max(len(result.cell.settings[key]) for result in results)
        drawn.add_column(key, overflow="fold", no_wrap=longest <= LONGEST_WORD)
    drawn.add_column("outcome", no_wrap=True)
    figures = ("before", "final", "best (step)") if measure else ()
    for heading in (*(f"{measure}\n{name}" for name in figures), "reward", "steps", "seconds"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        drawn.add_row(*_words(result, keys, bool(measure)))
    return drawn


def show(results: Sequence[Result], title: str, console: Console) -> None:
    """Print the table, with all its columns where nobody's terminal bounds the line.

    Args:
        results, title: As of `table`.
        console: Where to.
    """
    width = console.width if console.is_terminal else max(console.width, FILE_WIDTH)
    console.print(table(results, title), width=width, crop=False)


def write(results: Sequence[Result], path: Path) -> None:
    """Write a row per cell, with every figure of its last and best evaluation.

    Args:
        results: In the order of the grid.
        path: Of the CSV file, which is whole at any time.
    """
    rows = [_row(result) for result in results]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with written_aside(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _words(result: Result, keys: Sequence[str], is_evaluated: bool) -> list[str]:
    words = [*(result.cell.settings[key] for key in keys), result.outcome]
    if is_evaluated:
        found, best = result.evaluations, result.best
        words.append(f"{found[0].score:.3f}" if found else DASH)
        words.append(f"{found[-1].score:.3f}" if found and found[-1].step else DASH)
        words.append(f"{best.score:.3f} ({best.step})" if best else DASH)
    words.append(DASH if result.reward is None else f"{result.reward:.3f}")
    return [*words, str(result.steps), f"{result.seconds:.0f}"]


def _row(result: Result) -> Mapping[str, Any]:
    row: dict[str, Any] = {"cell": result.cell.name, **result.cell.settings}
    row |= {"outcome": result.outcome, "steps": result.steps, "seconds": round(result.seconds, 1)}
    row |= {REWARD: result.reward, "why": result.why}
    if result.evaluations:
        row |= {f"before {name}": value for name, value in result.evaluations[0].figures.items()}
    if (best := result.best) is not None:
        row |= {f"final {name}": value for name, value in result.evaluations[-1].figures.items()}
        row |= {"best step": best.step}
        row |= {f"best {name}": value for name, value in best.figures.items()}
    return row


def _attempts(sweep: Path) -> list[dict[str, Any]]:
    file = sweep / ATTEMPTS
    found = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill
            continue
    return found


def _killed_s(folder: Path, began: float, until: float) -> float:
    """What a command took that was killed: up to the last thing that its run had said."""
    clocks = [row.get(CLOCK, 0.0) for row in history.rows(folder)]
    return max((clock - began for clock in clocks if began < clock < until), default=0.0)

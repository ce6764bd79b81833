"""Parts of the live view that need nothing but what they show: messages, and scores."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rich.table import Table
from rich.text import Text

from oapl.tracking.drawing import DASH, SPARK_WIDTH, figure, sparkline

WARNINGS = (
    "alarm",
    "died",
    "killing",
    "fail",
    "warning",
    "did not",
    "interrupted",
    "non-finite",
    "refused",
)
MEASURES = (
    *("mean@", "greedy", "maj@", "pass@"),
    *("length_mean", "entropy", "truncated_rate", "malformed_rate"),
)
"""Of an evaluation, the most telling first: where there is no room the last are left out."""


def is_telling(name: str) -> bool:
    """Whether a figure of an evaluation is one for a line: of a whole set, and of `MEASURES`."""
    measure = name.split("/", 2)[-1]
    is_measure = measure.startswith(MEASURES) and "/" not in measure
    return name == "eval/score" or (is_measure and not measure.endswith("_se"))


def is_warning(text: str) -> bool:
    """Whether a message tells of something that should not happen."""
    return any(word in text.lower() for word in WARNINGS)


def said(messages: Sequence[tuple[float, str]], most: int) -> Iterator[Text]:
    """Draw the last messages; earlier warnings keep up to half of the lines.

    Args:
        messages: All that are kept, with their times in unix seconds.
        most: Lines that there are.
    """
    if most <= 0:
        return
    older, last = list(messages)[:-most], list(messages)[-most:]
    new = sum(is_warning(text) for _, text in last)
    warned = [item for item in older if is_warning(item[1])][-max(most // 2 - new, 0) :]
    if most // 2 > new and warned:
        last = [*warned, *islice(last, len(warned), None)]
    for at, text in last:
        moment = time.strftime("%H:%M:%S", time.localtime(at))
        style = "yellow" if is_warning(text) else ""
        shown = " ".join(text.split())
        line = Text.assemble((f"{moment}  ", "dim"), (shown, style), overflow="ellipsis")
        line.no_wrap = True
        yield line


def most_telling(names: Iterable[str]) -> list[str]:
    """Order the names of evaluated figures, the most telling first; errors have no row."""

    def rank(name: str) -> int:
        measure = name.split("/", 2)[-1]
        return next((i for i, m in enumerate(MEASURES) if measure.startswith(m)), len(MEASURES))

    return sorted((name for name in names if not name.endswith("_se")), key=rank)


def scores(evaluations: Mapping[str, Sequence[float]], most: int, *, with_curves: bool) -> Table:
    """Draw the last of each figure, how far it has come, and its curve.

    Args:
        evaluations: All of each, by name.
        most: Rows that there are.
        with_curves: Whether there is room for them.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_row(Text("evaluation", style="bold cyan"), "", Text("change", "dim"), "")
    for name in most_telling(evaluations)[:most]:
        seen = evaluations[name]
        change = f"{seen[-1] - seen[0]:+.3f}" if len(seen) > 1 else DASH
        error = evaluations.get(name + "_se")
        shown = f"{figure(seen[-1])}" + (f" ± {error[-1]:.3f}" if error else "")
        has_curve = with_curves and len(seen) > 2  # of two points the change says all
        spark = Text(sparkline(seen, SPARK_WIDTH) if has_curve else "", "green")
        table.add_row(name.removeprefix("eval/"), shown, change, spark)
    return table

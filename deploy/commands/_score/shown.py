"""How far the judging is, and what came of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from oapl.records import KINDS

LINE_EVERY_S = 10.0
"""Between two lines of progress, where there is no terminal."""
FAILED = "error"
"""What a record counts as that nobody could judge."""
WITHOUT = ("timeout", FAILED)
"""Kinds that stand for a verdict which the verifier did not give."""
UNJUDGED = "unjudged"


@dataclass(slots=True)
class Summary:
    """What became of the records.

    Attributes:
        num_unjudged: Those that nobody could judge: a prompt without what its verifier needs, a
            verifier that cannot start. They count as `error` and have no reward.
        first: The first detail of each of `WITHOUT`, and of those that nobody could judge.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    rewards: list[float] = field(default_factory=list)
    num_unjudged: int = 0
    first: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def note(self, kind: str, detail: str) -> None:
        """Keep what a record without a verdict of its own got instead, if it is the first such.

        Args:
            kind: Of the verdict, or `UNJUDGED`.
            detail: Why.
        """
        if kind in (*WITHOUT, UNJUDGED):
            self.first.setdefault(kind, detail)

    @property
    def is_in_vain(self) -> bool:
        """Whether the verifier gave no record a verdict of its own."""
        return sum(self.kinds[kind] for kind in WITHOUT) == self.count

    @property
    def count(self) -> int:
        """Of all records."""
        return self.kinds.total()


class ProgressShown:
    """Progress: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._started = self._told = time.monotonic()
        self._bar = Progress(
            TextColumn("judged"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate=0.0)

    def __enter__(self) -> ProgressShown:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, count: int) -> None:
        """`count` records are judged by now."""
        now = time.monotonic()
        rate = count / (now - self._started)
        self._bar.update(self._task, completed=count, rate=rate)
        if not self._console.is_terminal and now - self._told >= LINE_EVERY_S:
            self._told = now
            self._console.print(f"{count} of {self._total} judged, {rate:,.0f}/s", highlight=False)


def show(summary: Summary, verifier: str, out: Path, console: Console) -> None:
    """A table of the verdicts, and what they come to.

    Args:
        summary: Of all records.
        verifier: As the user named it.
        out: Where the verdicts are.
        console: Where to print.
    """
    count, rewards = summary.count, summary.rewards
    accepted = summary.kinds["accepted"]
    title = f"{verifier}: {accepted} of {count} accepted"
    table = Table("verdict", "records", "share", title=title)
    for kind in KINDS:
        if summary.kinds[kind] or kind in ("accepted", "timeout", FAILED):
            table.add_row(kind, f"{summary.kinds[kind]}", f"{summary.kinds[kind] / count:.1%}")
    console.print(table)
    mean = sum(rewards) / len(rewards) if rewards else math.nan
    console.print(
        f"mean reward {mean:.4f}, {summary.kinds['timeout']} timeouts, "
        f"{summary.kinds[FAILED]} errors, {count / summary.seconds:,.1f} items/s; see {out}",
        highlight=False,
    )
    lines = [f"first {kind}: {summary.first[kind]}" for kind in WITHOUT if kind in summary.first]
    if summary.num_unjudged:
        first = summary.first[UNJUDGED]
        lines.append(f"{summary.num_unjudged} records could not be judged; the first: {first}")
    if summary.is_in_vain:
        lines.append("no record has a verdict: the verifier does not work")
    for line in lines:
        console.print(line, style="red", highlight=False, markup=False)

"""What a run has written of itself, read back line by line: metrics and messages, in order of time.

Invariants: every line is taken in once and only whole; a file that was replaced or cut, as a resume
does, is noticed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from oapl.records import StepMetrics
from oapl.tracking.lines import (
    CLOCK,
    METRICS_FILE,
    SET_ASIDE,
    STAMP,
    STAMP_LENGTH,
    Row,
    is_evaluation,
    parse,
)
from oapl.tracking.names import STEP
from oapl.tracking.view import View

Entry = tuple[float, StepMetrics | str]
"""Unix time, and a line of metrics or a message."""


class Tail:
    """Reads the whole lines that a file gains."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0
        self._offset = 0

    def lines(self) -> list[str]:
        """Read those since the last call; a line still being written waits for its end."""
        try:
            with self.path.open("rb") as file:
                self._inode = self._inode or self.path.stat().st_ino
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def is_replaced(self) -> bool:
        """Whether what was read is no longer what the file begins with."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._offset > 0
        is_other = self._inode not in (0, found.st_ino)
        return is_other or found.st_size < self._offset


def entries(metrics: Tail, messages: Tail) -> Iterator[Entry]:
    """Yield the new lines of both files, in order of time.

    Args:
        metrics: Of `METRICS_FILE`.
        messages: Of `MESSAGES_FILE`.
    """
    found: list[Entry] = []
    for line in metrics.lines():
        row = json.loads(line)
        at, step = row.pop(CLOCK), row.pop(STEP)
        values = {name: value for name, value in row.items() if value is not None}
        found.append((at, StepMetrics(step=step, values=values)))
    found += _messages(messages.lines())
    yield from sorted(found, key=lambda entry: entry[0])


def feed(view: View, metrics: Tail, messages: Tail) -> None:
    """Give a view the new lines of both files.

    Args:
        view: Takes them in.
        metrics: Of `METRICS_FILE`.
        messages: Of `MESSAGES_FILE`.
    """
    for at, entry in entries(metrics, messages):
        if isinstance(entry, StepMetrics):
            view.feed(entry, at)
        else:
            view.say(entry, at)


def first_evaluation(folder: Path) -> dict[str, float]:
    """Read the figures of the run's first evaluation, which a resumed run did not make itself."""
    return next((figures for _, figures in evaluations(folder)), {})


def last_evaluation(folder: Path) -> dict[str, float]:
    """Read the figures of the run's last evaluation, where there were several."""
    found = [*evaluations(folder)]
    return found[-1][1] if len(found) > 1 else {}


def evaluations(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Read the learner step and the figures of every evaluation of the run, in their order."""
    return ((row[STEP], _figures(row)) for row in rows(folder) if is_evaluation(row))


def rows(folder: Path) -> Iterator[Row]:
    """Read every whole line of metrics of the run."""
    return _rows_of(folder / METRICS_FILE)


def lost_rows(folder: Path) -> Iterator[Row]:
    """Read every whole line that resumes of the run have set aside: their steps were made again."""
    for path in sorted(folder.glob(SET_ASIDE.format("*"))):
        yield from _rows_of(path)


def by_step(folder: Path, name: str) -> dict[int, float]:
    """Read one metric of a run, by learner step.

    Args:
        folder: The run's.
        name: The metric's.
    """
    found = ((row[STEP], row.get(name)) for row in rows(folder))
    return {step: value for step, value in found if value is not None}


def _rows_of(path: Path) -> Iterator[Row]:
    found = map(parse, path.read_text().splitlines() if path.exists() else [])
    return (row for row in found if row is not None)


def _figures(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name.startswith("eval/")}


def _messages(lines: list[str]) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for line in lines:
        try:
            at = time.mktime(time.strptime(line[:STAMP_LENGTH], STAMP))
        except ValueError:  # the message before goes on
            if found:
                at, text = found.pop()
                found.append((at, f"{text} {line}"))
            continue
        found.append((at, line[STAMP_LENGTH + 1 :]))
    return found

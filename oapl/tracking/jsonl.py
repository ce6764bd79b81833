"""metrics.jsonl and messages.log: what a run writes of itself, in its folder.

Invariants: a line of metrics is whole or absent, holds only what JSON knows (a number that is not
finite is null), and is never written twice: on resume the lines after the checkpoint's step are set
aside.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oapl.records import StepMetrics
from oapl.tracking.lines import (
    CLOCK,
    MESSAGES_FILE,
    METRICS_FILE,
    SET_ASIDE,
    STAMP,
    Row,
    is_evaluation,
    parse,
)
from oapl.tracking.names import STEP
from oapl.tracking.sink import Sink
from oapl.whole_files import written_aside


class JsonlSink(Sink):
    """Writes a line per learner step and per evaluation, and each message with its time.

    Rollouts have been written by their store.

    Args:
        folder: The run's.
        step: After which learner step it begins: later lines are set aside. None: an evaluation
            alone, which adds lines to whatever is there.
    """

    def __init__(self, folder: Path, step: int | None) -> None:
        self._path = folder / METRICS_FILE
        self._messages = folder / MESSAGES_FILE
        self._resumed_at = step
        if step is not None:
            self._set_aside(lambda row: row is None or row[STEP] > step)

    def log(self, metrics: StepMetrics) -> None:
        """Add a line, in place of the same evaluation's line of before a resume."""
        values = {name: _finite(value) for name, value in metrics.values.items()}
        if metrics.step == self._resumed_at and is_evaluation(values):
            # The checkpoint was saved before this evaluation, which is therefore made again.
            self._set_aside(lambda row: row is not None and _repeats(row, metrics))
        row = {STEP: metrics.step, **values, CLOCK: round(time.time(), 3)}
        with self._path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def message(self, text: str) -> None:
        """Add a line with the time of now."""
        with self._messages.open("a") as file:
            file.write(f"{time.strftime(STAMP)} {text}\n")

    def _set_aside(self, is_moved: Callable[[Row | None], bool]) -> None:
        """Move lines to `SET_ASIDE`; a line torn by a kill is None."""
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines()
        moved = [line for line in lines if is_moved(parse(line))]
        if not moved:
            return
        kept = [line for line in lines if not is_moved(parse(line))]
        with self._path.with_name(SET_ASIDE.format(self._resumed_at)).open("a") as file:
            file.writelines(line + "\n" for line in moved)
        with written_aside(self._path) as part:
            part.write_text("".join(line + "\n" for line in kept))


def _repeats(row: Mapping[str, Any], metrics: StepMetrics) -> bool:
    same = set(row) & set(metrics.values)
    return row[STEP] == metrics.step and is_evaluation(row) and bool(same)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

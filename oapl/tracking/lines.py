"""The files that a run writes line by line, and what a line of them is, for writer and readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oapl.tracking.names import STEP

METRICS_FILE = "metrics.jsonl"
SET_ASIDE = "metrics.after-step-{}.jsonl"
"""Lines of a run that went back to a checkpoint, with its step."""
MESSAGES_FILE = "messages.log"
CLOCK = "time/unix_s"
STAMP = "%Y-%m-%d %H:%M:%S"
"""Of a message, in local time."""
STAMP_LENGTH = 19

Row = dict[str, Any]
"""A line of metrics: `STEP`, `CLOCK`, and numbers by name; null for one that is not finite."""


def parse(line: str) -> Row | None:
    """The row that a line of `METRICS_FILE` holds; None when it was torn by a kill."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and STEP in row else None


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a row holds nothing but the figures of an evaluation."""
    names = set(row) - {STEP, CLOCK}
    return bool(names) and all(name.startswith("eval/") for name in names)

"""What a run has written of itself, read while it may still be writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def steps(run: Path) -> list[int]:
    """Learner steps in a run's metrics; a line that is just being written has no end yet."""
    try:
        whole = (run / "metrics.jsonl").read_text().rpartition("\n")[0]
    except FileNotFoundError:
        return []
    return [row["step"] for row in map(json.loads, whole.splitlines()) if "time/step_s" in row]


def lines(run: Path) -> list[dict[str, Any]]:
    """All of a run's metrics that has ended."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

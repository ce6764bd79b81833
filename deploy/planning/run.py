"""Rates that a run has measured, from its folder: its settings and its lines of metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.planning.recipe import most_sequences
from oapl.config import RunConfig
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.planning.rates import MEASURED, Rate

METRICS, SETTINGS = "metrics.jsonl", "config.toml"
BUSY = ("generate", "thrown_away", "evaluate")
"""States of engines in which they make tokens."""
WARM_UP = 5
"""First lines that are not read: everything is still being started."""

Row = Mapping[str, float]


def measured(folder: Path, activity: float) -> dict[str, Rate]:
    """Read what there is; what a run does not tell is left out.

    Args:
        folder: Of the run.
        activity: Rollouts of a group at work while it lasts (`oapl.planning.lengths.Table`).

    Raises:
        InputError: No run lies there, or none with lines of metrics.
    """
    settings = folder / SETTINGS
    if not settings.is_file() or not (folder / METRICS).is_file():
        raise InputError(f"--rates {folder}: holds no {SETTINGS} and {METRICS}; name a run folder")
    config = load_config(settings, [])
    rows = [row for row in _rows(folder / METRICS) if "time/step_s" in row][WARM_UP:]
    if not rows:
        raise InputError(
            f"--rates {folder}: has made no more than {WARM_UP} learner steps; name a longer run"
        )
    found = {
        **_learner(config, rows),
        **_engines(config, rows, activity),
        **_beside(rows),
    }
    why = f"{folder.name}, {len(rows)} steps"
    return {name: Rate(value, MEASURED, why) for name, value in found.items()}


def _rows(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: is no JSON ({error}); mend or remove that line"
            ) from error
        rows.append({key: value for key, value in row.items() if isinstance(value, int | float)})
    return rows


def _total(rows: Sequence[Row], name: str) -> float:
    return sum(row.get(name, 0.0) for row in rows)


def _learner(config: RunConfig, rows: Sequence[Row]) -> dict[str, float]:
    tokens = sum(
        row.get("perf/tokens_per_s", 0.0) * row.get("time/forward_backward_s", 0.0) for row in rows
    )
    seconds = _total(rows, "time/forward_backward_s") + _total(rows, "time/prepare_s")
    if not tokens or not seconds:
        return {}
    return {
        "learner_tokens_per_s": tokens / seconds / config.learner.num_ranks,
        "between_s": _total(rows, "seconds/learner/other") / len(rows),
        "step_s": 0.0,  # it is in the rate of tokens
    }


def _engines(config: RunConfig, rows: Sequence[Row], activity: float) -> dict[str, float]:
    busy = sum(_total(rows, f"seconds/engines/{state}") for state in BUSY)
    tokens = _total(rows, "rollout/tokens")
    flying = [row["replay/in_flight"] for row in rows if row.get("replay/in_flight")]
    if not busy or not tokens or not flying:
        return {}
    per_engine = sum(flying) / len(flying) / max(config.num_collecting, 1)
    at_work = min(per_engine * activity, most_sequences(config))
    found = {"engine_tokens_per_s": tokens / busy, "engine_rollouts": at_work}
    accepted, dropped = (_total(rows, f"replay/{what}") for what in ("accepted", "dropped"))
    if accepted > dropped:
        found["kept"] = 1 - dropped / accepted
    return found


def _beside(rows: Sequence[Row]) -> dict[str, float]:
    """Publications, and rewards: of several verifiers the sum of their medians."""
    sent = [row for row in rows if row.get("weights/bytes") and row.get("time/publish_s")]
    names = {key for row in rows for key in row if key.endswith("/latency_p50_s")}
    found = {}
    if sent:
        found["host_bytes_per_s"] = _total(sent, "weights/bytes") / _total(sent, "time/publish_s")
    if names:
        medians = [[row[name] for row in rows if name in row] for name in names]
        found["judge_s"] = sum(sum(values) / len(values) for values in medians)
    return found

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
LATENCY = "/latency_p50_s"
QUIET = 0.1
"""Share of the lines that have the shortest waits."""
OF_SPEED = (
    ("model", "path"),
    ("model", "dtype"),
    ("cluster", "device"),
    ("rollout", "tensor_parallel_size"),
    ("learner", "precision"),
    ("objective", "name"),
)
"""Settings that rates hang on and that a plan does not count again."""

Row = Mapping[str, float]


def measured(folder: Path, activity: float) -> dict[str, Rate]:
    """Read what there is; what a run does not tell is left out.

    Args:
        folder: Of the run.
        activity: Rollouts of a group at work while it lasts (`oapl.planning.lengths.Table`).

    Raises:
        InputError: No run lies there, or none with lines of metrics.
    """
    config, rows = _read(folder)
    found = {
        **_learner(config, rows),
        **_engines(config, rows, activity),
        **_beside(config, rows),
    }
    why = f"{folder.name}, {len(rows)} steps"
    return {name: Rate(value, MEASURED, why) for name, value in found.items()}


def mean_length(folder: Path) -> float:
    """Tokens of an accepted rollout, on average; 0 where the run tells of none.

    Args:
        folder: Of the run.

    Raises:
        InputError: See `measured`.
    """
    _, rows = _read(folder)
    return _length(rows)


def differences(folder: Path, config: RunConfig) -> tuple[str, ...]:
    """Name what sets the run apart from the recipe that its rates are taken for.

    Args:
        folder: Of the run.
        config: The recipe.

    Raises:
        InputError: See `measured`.
    """
    theirs, _ = _read(folder)
    return tuple(
        f"the rates' run has {section}.{key} = {there!r}, the recipe {here!r}"
        for section, key in OF_SPEED
        if (there := _value(theirs, section, key)) != (here := _value(config, section, key))
    )


def _value(config: RunConfig, section: str, key: str) -> object:
    found = getattr(config, section)
    return found.get(key) if isinstance(found, dict) else getattr(found, key)


def _read(folder: Path) -> tuple[RunConfig, Sequence[Row]]:
    """Settings, and the lines of learner steps without the first few."""
    settings = folder / SETTINGS
    if not settings.is_file() or not (folder / METRICS).is_file():
        raise InputError(f"--rates {folder}: holds no {SETTINGS} and {METRICS}; name a run folder")
    rows = [row for row in _rows(folder / METRICS) if "time/step_s" in row][WARM_UP:]
    if not rows:
        raise InputError(
            f"--rates {folder}: has made no more than {WARM_UP} learner steps; name a longer run"
        )
    return load_config(settings, []), rows


def _length(rows: Sequence[Row]) -> float:
    rollouts = _total(rows, "replay/accepted_rollouts")
    return _total(rows, "replay/accepted_tokens") / rollouts if rollouts else 0.0


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
    """Prompts are what a rollout has beyond its response, of the tokens trained on."""
    tokens = sum(
        row.get("perf/tokens_per_s", 0.0) * row.get("time/forward_backward_s", 0.0) for row in rows
    )
    seconds = _total(rows, "time/forward_backward_s") + _total(rows, "time/prepare_s")
    if not tokens or not seconds:
        return {}
    found = {
        "learner_tokens_per_s": tokens / seconds / config.learner.num_ranks,
        "between_s": _total(rows, "seconds/learner/other") / len(rows),
        "step_s": 0.0,  # it is in the rate of tokens
    }
    trained = len(rows) * config.learner.batch_size
    if length := _length(rows):
        found["prompt_tokens"] = max(tokens / trained - length, 1.0)
    return found


def _engines(config: RunConfig, rows: Sequence[Row], activity: float) -> dict[str, float]:
    """Groups in flight while engines are busy: those made, by how long each was under way."""
    busy = sum(_total(rows, f"seconds/engines/{state}") for state in BUSY)
    tokens = _total(rows, "rollout/tokens")
    under_way = sum(
        row["rollout/group_seconds_mean"] * row["replay/accepted"]
        for row in rows
        if row.get("rollout/group_seconds_mean") and row.get("replay/accepted")
    )
    if not busy or not tokens or not under_way:
        return {}
    at_work = min(under_way / busy * activity, most_sequences(config))
    found = {"engine_tokens_per_s": tokens / busy, "engine_rollouts": max(at_work, 1.0)}
    accepted, dropped = (_total(rows, f"replay/{what}") for what in ("accepted", "dropped"))
    if accepted > dropped:
        found["kept"] = 1 - dropped / accepted
    return found


def _beside(config: RunConfig, rows: Sequence[Row]) -> dict[str, float]:
    """Publications, and rewards."""
    sent = [row for row in rows if row.get("weights/bytes") and row.get("time/publish_s")]
    found = {}
    if sent:
        found["host_bytes_per_s"] = _total(sent, "weights/bytes") / _total(sent, "time/publish_s")
    names = {key for row in rows for key in row if key.endswith(LATENCY)}
    if names and (tasks := _total(rows, "reward/tasks")):
        found["judge_s"] = sum(_judging(config, rows, name) for name in names) / tasks
    return found


def _judging(config: RunConfig, rows: Sequence[Row], name: str) -> float:
    """Seconds that all processes of one verifier judged: for each response a line's median where
    next to nothing waited, since it tells waiting and judging together, and no more than they had.
    """
    medians = sorted(row[name] for row in rows if name in row)
    least = medians[int(QUIET * len(medians))]
    judged = _total(rows, name.removesuffix(LATENCY) + "/judged")
    processes = config.reward.workers * config.reward.servers
    return min(least * judged, processes * _total(rows, "time/step_s"))

"""A cell of the table: one objective and one seed, trained from the shared warm start."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.commands import quickstart
from deploy.run import program
from oapl.config import RunConfig
from tests.learning import warm

INTERVAL, STEPS = 16, 96
SEEDS = (0, 1)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "oapl": {"name": "oapl", "beta1": 5.0, "beta2": 0.1},
    "grpo without IS": {"name": "grpo"},
    "grpo + token IS": {"name": "grpo", "importance": "token"},
    "clip on engine log-probs": {"name": "grpo", "ratio_to": "inference"},
}
MEASURE = f"eval/{warm.SET}/mean@8"
ERRORS = 2.0
"""Standard errors by which a fall is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of it.

    Attributes:
        objective, seed: A key of `OBJECTIVES`, and the run's seed.
        before, before_error, after, after_error: mean@8 with its standard error over problems.
        periods: Mean reward of each period's trained rollouts.
        groups: That were made.
        largest_lag: In learner steps.
        seconds: It took.
    """

    objective: str
    seed: int
    before: float
    before_error: float
    after: float
    after_error: float
    periods: tuple[float, ...]
    groups: int
    largest_lag: int
    seconds: float

    @property
    def has_collapsed(self) -> bool:
        """It ends below where it began, or its rewards fell to less than half of their best."""
        error = math.hypot(self.before_error, self.after_error)
        is_below = self.after < self.before - ERRORS * error
        return is_below or self.periods[-1] < 0.5 * max(self.periods)


def train(folder: Path, start: Path, model: Path, objective: str, seed: int) -> Cell:
    """Train, and read the run's own lines.

    Raises:
        KeyboardInterrupt: A signal ended the run before its end.
    """
    config = configure(folder, start, model, objective, seed)
    shutil.rmtree(config.folder, ignore_errors=True)  # of a cell that was cut off
    started = time.monotonic()
    if program.train(config).signal:
        raise KeyboardInterrupt
    lines = [json.loads(x) for x in (config.folder / "metrics.jsonl").read_text().splitlines()]
    return cell_of(lines, objective, seed, time.monotonic() - started)


def cell_of(
    lines: Sequence[Mapping[str, float]], objective: str, seed: int, seconds: float
) -> Cell:
    (before, after) = (line for line in lines if MEASURE in line)
    return Cell(
        objective=objective,
        seed=seed,
        before=before[MEASURE],
        before_error=before[f"{MEASURE}_se"],
        after=after[MEASURE],
        after_error=after[f"{MEASURE}_se"],
        periods=by_period([x["reward/trained_mean"] for x in lines if "reward/trained_mean" in x]),
        groups=int(sum(line.get("replay/accepted", 0) for line in lines)),
        largest_lag=int(max(line.get("replay/lag_max", 0) for line in lines)),
        seconds=seconds,
    )


def configure(folder: Path, start: Path, model: Path, objective: str, seed: int) -> RunConfig:
    """The quickstart's second half, but for the objective, L = 16 and no lead."""
    name = "-".join("".join(c if c.isalnum() else " " for c in objective).split())
    overrides = (
        f"run.name={name}-{seed}",
        f"run.max_steps={STEPS}",
        f"sync.interval={INTERVAL}",
        "sync.max_lead=0",
        "checkpoint.every_syncs=0",
        'tracking.console="off"',
    )
    config = quickstart.reinforcement(warm.configure(folder, seed, *overrides), start, model)
    return replace(config, objective=OBJECTIVES[objective])


def by_period(rewards: Sequence[float]) -> tuple[float, ...]:
    starts = range(0, len(rewards), INTERVAL)
    return tuple(sum(part) / len(part) for part in (rewards[at : at + INTERVAL] for at in starts))

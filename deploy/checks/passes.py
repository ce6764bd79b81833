"""How far a run's data goes: passes over it, and the learner step at which it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deploy.checks.plugins import declared
from oapl.config import RunConfig
from oapl.config.objective import source_of
from oapl.replay.periods import PeriodNeeds


def steps_told(config: RunConfig, size: int, notes: list[str]) -> str:
    """Tell the run's steps in passes over its data.

    Args:
        config: The run.
        size: Draws of an epoch.
        notes: Gets a line where the data ends before the run.
    """
    per_step, wanted = config.groups_per_step, config.run.max_steps
    plan = _draws(config)
    epochs = sum(draws for _, draws in plan) / size
    if config.data.epochs and config.data.epochs < epochs:
        notes.append(
            f"the data ends after about {_lasts(plan, config.data.epochs * size)} of "
            f"run.max_steps = {wanted} "
            f"(data.epochs = {config.data.epochs})"
        )
    if source_of(config) == "stored":
        return f"{wanted} of {per_step} stored rollouts: {epochs:.2f} passes over the set"
    return (
        f"{wanted} of {per_step} groups of {config.rollout.group_size}: {epochs:.2f} epochs; "
        f"weights published every {config.sync.interval}"
    )


def _draws(config: RunConfig) -> list[tuple[int, float]]:
    """Learner step at which each period ends, and the draws it trains on; as if none fails."""
    if source_of(config) != "live":
        steps = config.run.max_steps
        return [(steps, steps * config.groups_per_step / config.learner.updates_per_batch)]
    return list(PeriodNeeds.of(config, declared(config).history).plan())


def _lasts(plan: Sequence[tuple[int, float]], draws: float) -> int:
    """The learner step at which so many draws are used up."""
    begin = 0
    for end, wanted in plan:
        if draws < wanted:
            return begin + math.ceil((end - begin) * draws / wanted)
        begin, draws = end, draws - wanted
    return begin

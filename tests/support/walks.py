"""Iterations of `tests.support.valued`, walked update by update and held against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from oapl.config import RunConfig
from oapl.records import Batch, CreditedGroup, Metrics
from tests.support import ranks
from tests.support.exact import Named, relative_error
from tests.support.exact_critic import Exact

OBJECTIVE = {"name": "tests.support.valued"}
Both = tuple[Named, Named]
"""Of the policy and of the critic."""
Errors = dict[str, float]
GRADIENT_BOUND = 1e-5
"""Of any update of a walk in fp32: plain PyTorch in fp32 makes up to 5e-6 (`make gradients`), where
most of a gradient cancels, and the moments that gradients are read from add theirs."""


@dataclass(frozen=True)
class Update:
    """One learner step: weights before it, gradients, and what it reported."""

    before: Both
    gradients: Both
    metrics: Metrics


@dataclass(frozen=True)
class Walk:
    """Learner steps, and the weights after the last of them."""

    updates: list[Update]
    after: Both


def valued_config(model: Path, *, parts: int = 2, passes: int = 2, **learner: Any) -> RunConfig:
    """One or two mini-batches, passed over so often, at rates that make both losses clip."""
    config = ranks.config_of(model, mini_batches=parts, updates_per_batch=passes, **learner)
    critic = replace(config.critic, lr=1e-3, clip_norm=0.0, weight_decay=0.0)
    optimizer = replace(config.optimizer, lr=5e-5)  # at 2e-4 soon every token is clipped
    return replace(config, objective=OBJECTIVE, optimizer=optimizer, critic=critic)


def groups() -> list[CreditedGroup]:
    """Of an iteration: two."""
    return ranks.grpo_groups(OBJECTIVE)


def parts_of(config: RunConfig) -> list[list[CreditedGroup]]:
    """The mini-batches of an iteration."""
    size = 2 // config.learner.mini_batches
    return [groups()[start : start + size] for start in range(0, 2, size)]


def walk(
    trainer: Any, config: RunConfig, batches_of: Callable[[int], list[Batch]], iterations: int
) -> Walk:
    """Make iterations, the first ones of the trainer; gradients follow from Adam's moments.

    Args:
        trainer: A rank of the learner.
        config: Of `valued_config`.
        batches_of: This rank's share of each mini-batch, at a learner step.
        iterations: How many.
    """
    updates: list[Update] = []
    moments: Both = {}, {}  # Adam has none before the first
    for iteration in range(iterations):
        batches = batches_of(iteration * config.steps_per_take)
        trainer.prepare(batches)
        for batch in batches * config.learner.updates_per_batch:
            before, old = _weights(trainer), moments
            metrics = trainer.update(batch)
            moments = _moments(trainer)
            betas = config.optimizer.betas[0], config.critic.betas[0]
            policy, critic = (
                {name: (new[name] - beta * was.get(name, 0.0)) / (1 - beta) for name in new}
                for beta, new, was in zip(betas, moments, old, strict=True)
            )
            updates.append(Update(before=before, gradients=(policy, critic), metrics=metrics))
    return Walk(updates=updates, after=_weights(trainer))


def errors(found: Walk, model: Path, config: RunConfig) -> tuple[Errors, Errors]:
    """Relative L2 errors, of the policy and of the critic: `gradient`, the worst update's, at the
    weights that it began with, and `parameters`, after as many updates of the oracle's own.

    Args:
        found: A walk.
        model: Its folder.
        config: Of `valued_config`.
    """
    order = parts_of(config) * config.learner.updates_per_batch
    size = len(parts_of(config)), config.learner.updates_per_batch
    right = exact_after(model, *size, len(found.updates) // len(order))
    away = [relative_error(a, b) for a, b in zip(found.after, right, strict=True)]
    exact, worst = Exact(model, config), [0.0, 0.0]
    for number, update in enumerate(found.updates):
        exact.load(*update.before)
        if number % len(order) == 0:
            exact.prepare(groups())
        true = exact.gradients(order[number % len(order)])
        for i, (gradient, other) in enumerate(zip(update.gradients, true, strict=True)):
            worst[i] = max(worst[i], relative_error(gradient, other))
    policy, critic = (
        {"gradient": gradient, "parameters": parameters}
        for gradient, parameters in zip(worst, away, strict=True)
    )
    return policy, critic


@cache
def exact_after(
    model: Path, parts: int, passes: int, iterations: int, dtype: torch.dtype = torch.float64
) -> Both:
    """The weights after iterations of the oracle, policy's and critic's.

    Args:
        model, parts, passes: As of `valued_config`.
        iterations: How many.
        dtype: Of the oracle.
    """
    return plain_walk(model, parts, passes, iterations, dtype).after


def plain_walk(model: Path, parts: int, passes: int, iterations: int, dtype: torch.dtype) -> Walk:
    """Iterations of the oracle itself.

    Args:
        model, parts, passes, iterations, dtype: As of `exact_after`.
    """
    config = valued_config(model, parts=parts, passes=passes)
    exact = Exact(model, config, dtype)
    updates = []
    for _ in range(iterations):
        exact.prepare(groups())
        for part in parts_of(config) * passes:
            before = exact.parameters()
            gradients = exact.step(part)
            updates.append(Update(before=before, gradients=gradients, metrics={}))
    return Walk(updates=updates, after=exact.parameters())


def _weights(trainer: Any) -> Both:
    return ranks.weights(trainer), ranks.critic_weights(trainer)


def _moments(trainer: Any) -> Both:
    critic = trainer.critic
    return (
        ranks.moments(trainer.engine, trainer.engine.module.lm),
        ranks.moments(critic, critic.module),
    )

"""The learning rate as a function of the learner step: no state, so nothing to save or restore."""

from __future__ import annotations

import math

from oapl.config.sections import OptimizerSection


def learning_rate(step: int, max_steps: int, optimizer: OptimizerSection) -> float:
    """Compute the rate of the update that follows `step` learner steps.

    Linear from 0 over the first `warmup_ratio * max_steps` updates (the last of them has the full
    rate), then constant, or down a half cosine that would reach `min_lr` at `max_steps`.

    Args:
        step: Learner steps made before, skipped ones included.
        max_steps: Of the whole run; beyond it the rate stays where it ended.
        optimizer: `lr`, `schedule`, `min_lr`, `warmup_ratio`.

    Source: of the cosine, SGDR (arXiv 1608.03983, equation 5), without its restarts; of the
    warm-up, none.
    """
    warmup = math.ceil(optimizer.warmup_ratio * max_steps)
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup
    if optimizer.schedule == "constant":
        return optimizer.lr
    done = min((step - warmup) / max(max_steps - warmup, 1), 1.0)
    height = max(optimizer.lr - optimizer.min_lr, 0.0)
    return optimizer.lr - height * (1 - math.cos(math.pi * done)) / 2

"""A module of which a step may use a part, and what a rank sees of it from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.ranks import config_of

START, RATE, DECAY = 2.0, 0.1, 0.5


class Parts(nn.Module):
    """The sum of `always` and, on demand, of `sometimes`; `never` takes part in nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.never = (nn.Linear(4, 4) for _ in range(3))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(START)

    def forward(self, uses_sometimes: bool) -> Tensor:
        x = torch.ones(1, 4, dtype=self.always.weight.dtype)
        out: Tensor = self.always(x) + (self.sometimes(x) if uses_sometimes else 0.0)
        return out.float().sum()


def config(stage: int, precision: str, **learner: Any) -> Any:
    """A run with a large rate and a large weight decay."""
    found = config_of(None, zero_stage=stage, precision=precision, **learner)  # type: ignore[arg-type]
    return replace(found, optimizer=replace(found.optimizer, lr=RATE, weight_decay=DECAY))


def walk(
    config: Any, steps: Sequence[bool], *, rates: Sequence[float] = (), broken: Sequence[int] = ()
) -> dict[str, list[float]]:
    """Step an engine in this process; each step has two micro-batches.

    Args:
        config: Of `config`.
        steps: Whether the second micro-batch of a step uses `sometimes`; the first never does.
        rates: Of the steps; default: `RATE` of each.
        broken: Steps whose gradients are NaN.

    Returns:
        By name of a part one of its weights, before and after each step, and the `norm` of each.
    """
    from learner.zero_engine import ZeroEngine

    engine = ZeroEngine(config, Parts(), config.optimizer)
    found: dict[str, list[float]] = {"norm": []}
    _look(engine, found)
    for step, uses_sometimes in enumerate(steps):
        factor = math.nan if step in broken else 1.0
        engine.backward(engine.forward(False) * factor)
        engine.backward(engine.forward(uses_sometimes, is_last=True) * factor)
        found["norm"].append(engine.step(rates[step] if rates else RATE))
        _look(engine, found)
    engine.destroy()
    return found


def _look(engine: Any, found: dict[str, list[float]]) -> None:
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        for name in ("always", "sometimes", "never"):
            weight = getattr(engine.module, name).weight
            found.setdefault(name, []).append(float(weight.detach().flatten()[0]))

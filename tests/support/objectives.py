"""An example of each objective: how benches and the live tests train by it.

An objective that has no line here is trained by its defaults, one learner step per take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oapl.config.objective import OBJECTIVES, is_prepared
from oapl.objectives.base import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """How an objective is tried out.

    Attributes:
        options: The objective's own, without its name.
        mini_batches, updates_per_batch: Of an iteration.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    mini_batches: int = 1
    updates_per_batch: int = 1


EXAMPLES = {
    "oapl": Example(options={"beta1": 5.0, "beta2": 0.1}),
    "grpo": Example(
        options={"importance": "token", "importance_cap": 2.0, "kl_coefficient": 1e-3},
        mini_batches=2,
    ),
    "ppo": Example(options={"kl_coefficient": 1e-3, "kl_in": "reward"}, mini_batches=2),
    "remix": Example(options={"until": 6}, mini_batches=2, updates_per_batch=2),
}


def names() -> list[str]:
    """The objectives there are."""
    return OBJECTIVES.names()


def example(name: str) -> Example:
    return EXAMPLES.get(name, Example())


def prepares(options: Mapping[str, Any], steps_per_take: int = 1) -> bool:
    """Whether the learner's ranks are asked before an iteration's first update."""
    return is_prepared(build(options).declares.needs, steps_per_take)

"""How many groups a period wants, and the names of the ways in which a draw ends.

Invariant: what is wanted depends on the served version and the learner step alone, so that a
resumed run, or one that was given more steps, wants what it would have wanted had it never stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from oapl.errors import InputError

FateKind = Literal["trained", "dropped", "failed", "unfinished"]
FATES: tuple[FateKind, ...] = ("trained", "dropped", "failed", "unfinished")


@dataclass(frozen=True, slots=True)
class Fate:
    """How a draw ended: `detail` names the filter or the cause; `step` counts learner steps."""

    id: str
    attempt: int
    kind: FateKind
    detail: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many groups a run asks for, and when.

    Attributes:
        groups_per_step: Groups of one learner step.
        interval: L, learner steps of a period; periods end at its multiples.
        max_steps: Learner steps of the run; the last period may be shorter.
        capacity: Most groups buffered, leased and in flight together.
        group_size: G, rollouts of a complete group.
        surplus: Share of a period's groups handed out beyond need.
        max_deaths: A draw under which engines died so often fails.

    Raises:
        InputError: The capacity does not hold one step's groups.
    """

    groups_per_step: int
    interval: int
    max_steps: int
    capacity: int
    group_size: int
    surplus: float = 0.0
    max_deaths: int = 3

    def __post_init__(self) -> None:
        if self.capacity < self.groups_per_step:
            raise InputError(
                f"replay.capacity is {self.capacity} groups, but one learner step takes "
                f"{self.groups_per_step}: no step could ever begin; raise replay.capacity or lower "
                f"learner.batch_size"
            )

    def period_end(self, version: int, step: int) -> int:
        """Learner step at which the period of `version` ends.

        The second term matters only when a resumed run has a shorter interval: the period then
        ends at the first multiple that is still ahead.
        """
        end = max(version // self.interval + 1, math.ceil(step / self.interval)) * self.interval
        return min(end, self.max_steps)

    def wanted(self, version: int, step: int) -> int:
        """Groups that the period of `version` can still use after `step` learner steps."""
        end = self.period_end(version, step)
        if step >= end:
            return 0
        # Not the plain ceiling: 0.1 * 30 is 3.0000000000000004.
        surplus = math.ceil(self.surplus * self.groups_per_step * (end - version) - 1e-9)
        return self.groups_per_step * (end - step) + surplus

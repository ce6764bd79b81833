"""The run that is measured and simulated side by side: one engine or some, steps that last 1,
groups of one rollout whose durations are drawn in learner steps."""

from __future__ import annotations

from dataclasses import dataclass

from oapl.planning import setting, simulation
from oapl.planning.lengths import Lognormal, duration
from oapl.planning.setting import Shares

__all__ = ["GROUPS_PER_STEP", "SLOT_SHARE", "Setting", "Shares", "duration", "simulate"]

GROUPS_PER_STEP = 16
SLOT_SHARE = 1.05
"""Groups that an engine can make at a time, over what the learner eats while one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run: mean duration of a group in learner steps, L, and what to do about idle time; the
    slots are spread over the engines."""

    mean: float
    interval: int
    surplus: float = 0.0
    max_lead: int = 0
    engines: int = 1
    moves: bool = False

    @property
    def slots(self) -> int:
        return self.engines * round(SLOT_SHARE * GROUPS_PER_STEP * self.mean / self.engines)


def simulate(one: Setting, steps: int, seed: int = 0, *, between: float = 0.0) -> Shares:
    """Idle shares of a run of `steps` learner steps, without its first period; `between` is the
    time that each takes beyond its work."""
    run = setting.Setting(
        interval=one.interval,
        groups_per_step=GROUPS_PER_STEP,
        slots=one.slots,
        surplus=one.surplus,
        max_lead=one.max_lead,
        engines=one.engines,
        moves=one.moves,
        between=between,
    )
    return simulation.simulate(run, Lognormal(one.mean, seed), steps)

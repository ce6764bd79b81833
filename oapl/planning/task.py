"""What a recipe asks of machines, as numbers; and how the machines are divided."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oapl.planning.lengths import Table
from oapl.planning.rates import Rates
from oapl.planning.setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run.

    Attributes:
        interval, max_steps, mini_batches, updates_per_batch, surplus, max_lead, capacity: As in the
            recipe.
        groups_per_step, group_size: Of a learner step, and G.
        phases: Learner steps, and the groups of a take that engines make for it: all, or fewer
            where the rest is history.
        groups_per_engine: Groups that an engine holds at a time.
        engines, ranks: How many of each; no engines where rollouts are stored.
        devices_per_engine, devices_per_rank: Devices of one.
        devices: Of the machine, all of them held by the run.
        devices_per_node: Devices in one host.
        publication_bytes: Of one publication.
        transport: A file of oapl/weights.
        judges: Reward processes of one verifier, all servers together.
        answers: Rollouts to be made before the run that trains on them stored; 0: none.
        is_bound: L belongs to the objective, which takes neither a surplus nor a lead.
        moves: A period's last groups are moved to few engines.
    """

    interval: int
    max_steps: int
    groups_per_step: int
    group_size: int
    phases: tuple[tuple[int, int], ...]
    groups_per_engine: int
    engines: int
    ranks: int
    devices: int
    devices_per_engine: float = 1.0
    devices_per_rank: float = 1.0
    devices_per_node: int = 8
    mini_batches: int = 1
    updates_per_batch: int = 1
    surplus: float = 0.0
    max_lead: int = 0
    capacity: int = 0
    publication_bytes: float = 0.0
    transport: str = "object_store"
    judges: int = 1
    answers: int = 0
    is_bound: bool = False
    moves: bool = False

    @property
    def steps_per_take(self) -> int:
        """Learner steps of an iteration."""
        return self.mini_batches * self.updates_per_batch

    @property
    def is_narrow(self) -> bool:
        """Whether the buffer's capacity, and not the period, keeps engines from being full."""
        take = self.groups_per_step * self.mini_batches
        period = self.interval // self.steps_per_take * take
        return 0 < self.capacity < min(self.engines * self.groups_per_engine + take, period)

    @property
    def held(self) -> float:
        """Devices that engines and ranks take."""
        return self.engines * self.devices_per_engine + self.ranks * self.devices_per_rank

    @property
    def engine_nodes(self) -> int:
        """Hosts with engines."""
        return math.ceil(self.engines * self.devices_per_engine / self.devices_per_node)


def setting_of(
    task: Task, rates: Rates, lengths: Table, *, fresh: int, publish_s: float
) -> Setting:
    """Make of rates what is simulated, in seconds and tokens.

    Args:
        task: The run, with engines.
        rates: Of its machines.
        lengths: Of its groups.
        fresh: Groups of a take that engines make.
        publish_s: Of one publication.
    """
    full = rates.engine_rollouts.value
    return Setting(
        interval=task.interval,
        groups_per_step=task.groups_per_step,
        slots=task.engines * task.groups_per_engine,
        surplus=task.surplus,
        max_lead=task.max_lead,
        engines=task.engines,
        moves=task.moves,
        mini_batches=task.mini_batches,
        updates_per_batch=task.updates_per_batch,
        fresh_per_take=fresh,
        capacity=task.capacity,
        kept=rates.kept.value,
        step=rates.step_s.value,
        token_time=1 / (rates.learner_tokens_per_s.value * task.ranks),
        prompt_work=task.group_size * rates.prompt_tokens.value,
        between=rates.between_s.value,
        publish=publish_s,
        pace=rates.engine_tokens_per_s.value / full,
        full=task.engines * full,
        fixed=min(1.0, 1 / rates.alone.value),
    )

"""Which L, surplus, lead and division of devices end a run soonest within a bound on the lag, and
whether its stragglers are moved.

A coarse search, each candidate simulated: divisions by what neither side can undercut, then for the
best of them a grid of the rest. Of candidates that are as fast, within two hundredths, the one that
throws least away, and of these the one with the smallest lag.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oapl.planning.forecast import bound_s, forecast
from oapl.planning.foreseen import Forecast
from oapl.planning.lengths import Table
from oapl.planning.rates import Rates
from oapl.planning.task import Task
from oapl.stragglers import most_behind

DIVISIONS, FINER = 4, 2
"""Divisions that are simulated, and of these those that are tried with every L."""
INTERVALS = (1.0, 0.5, 0.25, 0.125)
"""L tried, as shares of the longest that the bound allows."""
SURPLUSES = (0.0, 0.1, 0.2)
GROUPS = 8_000
"""Groups of a simulation in the search."""
EQUAL, EMPTY = 0.02, 0.005
"""Differences in time, and in tokens thrown away, that count as none."""
ROUNDING = 1e-9
"""Devices may be shared: 1 - 0.45 is a little less than 0.55."""
CHOSEN = ("interval", "surplus", "max_lead", "moves", "engines", "ranks")
"""What a search may change of a task."""

Allows = Callable[[Task], bool]
"""Whether a run of that kind can be: memory, and the rules of settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What was found.

    Attributes:
        task: With its L, surplus, lead, stragglers, engines and ranks.
        found: What is foreseen of it.
        tried: Simulations made.
    """

    task: Task
    found: Forecast
    tried: int


def best(
    task: Task, rates: Rates, lengths: Table, *, max_lag: int, allows: Allows = lambda _: True
) -> Best | None:
    """Search.

    Args:
        task: The run as the recipe has it.
        rates: Of its machines.
        lengths: Of its groups.
        max_lag: Largest lag, in learner steps.
        allows: See `Allows`.

    Returns:
        None where no candidate is allowed.
    """
    tried = 0

    def seen(one: Task) -> tuple[Task, Forecast]:
        nonlocal tried
        tried += 1
        return one, forecast(one, rates, lengths, groups=GROUPS)

    def least_s(one: Task) -> float:
        return bound_s(one, rates, lengths)

    apart = sorted(_divisions(task, allows), key=least_s)[:DIVISIONS]
    first = [seen(_longest(one, max_lag)) for one in apart if allows(_longest(one, max_lag))]
    own = [seen(task)] if _lag(task) <= max_lag and allows(task) else []
    first.sort(key=lambda pair: pair[1].hours)
    finer = [
        seen(other)
        for one, _ in first[:FINER]
        for other in _settings(one, max_lag)
        if allows(other)
    ]
    if not [*own, *first]:
        return None
    chosen, _ = _choose(task, [*own, *first, *finer])
    return Best(task=chosen, found=forecast(chosen, rates, lengths), tried=tried)


def _choose(task: Task, seen: list[tuple[Task, Forecast]]) -> tuple[Task, Forecast]:
    """The best of them; of equal ones the one that changes least of the recipe."""
    soonest = min(found.hours for _, found in seen)
    equal = [pair for pair in seen if pair[1].hours <= soonest * (1 + EQUAL)]
    least = min(found.wasted for _, found in equal)
    thrifty = [pair for pair in equal if pair[1].wasted <= least + EMPTY]

    def order(pair: tuple[Task, Forecast]) -> tuple[int, int, float]:
        changed = sum(getattr(pair[0], name) != getattr(task, name) for name in CHOSEN)
        return _lag(pair[0]), changed, pair[1].hours

    return min(thrifty, key=order)


def _lag(task: Task) -> int:
    return task.interval - 1 + min(task.max_lead, task.interval)


def _divisions(task: Task, allows: Allows) -> Iterator[Task]:
    """Ranks by steps of an eighth at least, and as many engines as have room beside them."""
    most = int((task.devices - task.devices_per_engine) / task.devices_per_rank + ROUNDING)
    for ranks in sorted({*_counts(most), task.ranks}):
        room = task.devices - ranks * task.devices_per_rank
        engines = int(room / task.devices_per_engine + ROUNDING)
        one = dataclasses.replace(task, ranks=ranks, engines=engines)
        if ranks <= most and engines and allows(one):
            yield one


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, ...: the gaps grow with the numbers."""
    count = 1
    while count <= most:
        yield count
        count += max(1, 2 ** (int(math.log2(count)) - 2)) if count >= 16 else 1 + (count >= 4)


def _longest(task: Task, max_lag: int) -> Task:
    """With the longest L that the bound allows, unless L belongs to the objective."""
    if task.is_bound:
        return task
    interval = _whole(task, max_lag + 1)
    return dataclasses.replace(task, interval=interval, max_lead=0, moves=False)


def _settings(task: Task, max_lag: int) -> Iterator[Task]:
    """L, surplus and lead, with a lead and no surplus also stragglers that are moved; the longest L
    without either has been tried."""
    if task.is_bound:
        return
    known = {(task.interval, task.surplus, 0, False)}
    for share in INTERVALS:
        interval = _whole(task, int((max_lag + 1) * share))
        lead = max(0, min(max_lag + 1 - interval, interval))
        for surplus in SURPLUSES:
            may_move = lead > 0 and surplus == 0 and most_behind(task.engines) > 0
            for ahead, moves in ((0, False), (lead, False), (lead, may_move)):
                key = (interval, surplus, ahead, moves)
                if key not in known:
                    known.add(key)
                    yield dataclasses.replace(
                        task, interval=interval, surplus=surplus, max_lead=ahead, moves=moves
                    )


def _whole(task: Task, steps: int) -> int:
    """Whole takes, one at the least, and no more steps than there are."""
    take = task.steps_per_take
    return max(take, min(steps, task.max_steps) // take * take)

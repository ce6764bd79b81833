"""How many groups a period wants.

Invariants: periods end at multiples of L, whenever the version that feeds them was published; what
is wanted depends on where the served version's period begins, on the learner step, and on what can
be used once more (groups of the period, and of history) alone, so that a resumed run, or one that
was given more steps, wants what it would have wanted had it never stopped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from oapl.config import RunConfig
from oapl.config.objective import History
from oapl.errors import InputError

UNIT, OF = 8, 256
"""Fresh rollouts come by 8 in every 256. The paper's batch counts prompts: it has 152 fresh ones of
256, be there one rollout of each (PPO) or eight (GRPO)."""


def fresh_groups(count: int, group_size: int, share: float) -> int:
    """Count the groups of a mixed take that are fresh.

    1 - share of its rollouts, rounded down to a multiple of 8 (of 16 from 512 rollouts on, of 24
    from 768, and so on) unless none were left, and to whole groups; at least one group.

    Args:
        count: Groups of the take.
        group_size: G.
        share: Of history; with 0 all are fresh.

    Source: ReMix (arXiv 2507.06892), Tables 1 and 7: 152 of 256 at p = 0.4, where 153.6 would be
    the exact share. That the rounding is to a multiple of 8 is our reading.
    """
    if not share:
        return count
    rollouts = count * group_size
    unit = UNIT * max(1, rollouts // OF)
    exact = (1 - share) * rollouts + 1e-9  # 0.1 * 80 may be a little below 8
    fresh = math.floor(exact / unit) * unit or math.floor(exact)
    return min(count, max(1, fresh // group_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodNeeds:
    """How many groups a run asks for, and when.

    Attributes:
        groups_per_step: Groups of one learner step.
        mini_batches: Parts of one take, a learner step each.
        updates_per_batch: Passes over a take.
        max_dropped: Groups that a filter may drop in a period, as a multiple of the period's.
        interval: L, learner steps of a period; periods end at its multiples.
        max_steps: Learner steps of the run; the last period may be shorter.
        capacity: Most groups buffered, leased and in flight together.
        group_size: G, rollouts of a complete group.
        surplus: Share of a period's groups handed out beyond need.
        max_deaths: A draw under which engines died so often fails.
        max_versions: Newest published versions whose groups are kept and trained on.
        drains: Engines end what is in flight before they load: such a draw stays its worker's while
            its version is among the kept ones.
        max_uses: How often a group may be used within its period.
        history: What the objective wants of groups of earlier iterations; None is nothing.
        engines: That may share a period's last groups out among few of them; 0: none may.
        groups_per_engine: Groups that one may hold.

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
    max_versions: int = 1
    drains: bool = False
    mini_batches: int = 1
    updates_per_batch: int = 1
    max_dropped: float = math.inf
    max_uses: int = 1
    history: History | None = None
    engines: int = 0
    groups_per_engine: int = 1

    @staticmethod
    def of(config: RunConfig, history: History | None) -> PeriodNeeds:
        """Read them from a configuration.

        Args:
            config: The run's.
            history: What its objective declares.
        """
        return PeriodNeeds(
            groups_per_step=config.groups_per_step,
            interval=config.sync.interval,
            max_steps=config.run.max_steps,
            capacity=config.replay.capacity,
            group_size=config.rollout.group_size,
            surplus=config.replay.surplus,
            max_deaths=config.rollout.max_deaths,
            max_versions=config.replay.max_versions,
            drains=config.sync.in_flight == "drain",
            mini_batches=config.learner.mini_batches,
            updates_per_batch=config.learner.updates_per_batch,
            max_dropped=config.replay.max_dropped,
            max_uses=config.replay.max_uses,
            history=history,
            engines=config.num_collecting if config.sync.stragglers == "move" else 0,
            groups_per_engine=config.rollout.max_groups_in_flight,
        )

    def __post_init__(self) -> None:
        if self.capacity < self.groups_per_take:
            raise InputError(
                f"replay.capacity is {self.capacity} groups, but one learner step takes "
                f"{self.groups_per_take}: no step could ever begin; raise replay.capacity or lower "
                f"learner.batch_size"
            )

    @property
    def groups_per_take(self) -> int:
        """Groups of an iteration."""
        return self.groups_per_step * self.mini_batches

    @property
    def steps_per_take(self) -> int:
        """Learner steps of an iteration."""
        return self.mini_batches * self.updates_per_batch

    def period_end(self, begin: int, step: int) -> int:
        """Find the learner step at which a period ends.

        The second term matters only when a resumed run has a shorter interval: the period then
        ends at the first multiple that is still ahead.

        Args:
            begin: Learner step at which it began, or will begin.
            step: Learner steps made.
        """
        end = max(begin // self.interval + 1, math.ceil(step / self.interval)) * self.interval
        return min(end, self.max_steps)

    def groups_of(self, steps: int) -> int:
        """Count the groups that so many learner steps take, from the beginning of an iteration."""
        takes, rest = divmod(steps, self.steps_per_take)
        return self.groups_per_step * (takes * self.mini_batches + min(rest, self.mini_batches))

    def is_mixed(self, step: int) -> bool:
        """Tell whether the iteration that begins at a learner step may have history in it."""
        history = self.history
        if history is None or not history.share:
            return False
        return not history.until or step // self.steps_per_take < history.until

    def fresh(self, count: int, step: int, window: int) -> int:
        """Count the fresh groups of a take; the rest of it is history.

        Args:
            count: Groups of the take.
            step: Learner step at which its iteration begins.
            window: Groups of history there are; where they are too few, fresh ones fill.
        """
        if self.history is None or not self.is_mixed(step):
            return count
        share = fresh_groups(count, self.group_size, self.history.share)
        return max(share, count - window)

    def wanted(self, begin: int, step: int, window: int = 0) -> int:
        """Count the groups that a period can still use, each once: all, when it has yet to begin.

        Args:
            begin: Learner step at which it began, or will begin.
            step: Learner steps made.
            window: Groups of history there are.

        Returns:
            Those of its steps to come, but for the history of the next take, and the surplus of the
            whole period.
        """
        end = self.period_end(begin, step)
        if step >= end:
            return 0
        now = max(step, begin)
        left = self.groups_of(end - now)
        take = min(left, self.groups_per_take)
        # Not the plain ceiling: 0.1 * 30 is 3.0000000000000004.
        surplus = math.ceil(self.surplus * self.groups_of(end - begin) - 1e-9)
        return left - take + self.fresh(take, now, window) + surplus

    def missing(
        self,
        begin: int,
        step: int,
        *,
        fresh: int = 0,
        used: Sequence[int] = (),
        window: int = 0,
    ) -> int:
        """Count the draws that a period still lacks.

        A group is in a take once. So of its uses only as many count as there are takes to come.

        Args:
            begin, step, window: As in `wanted`.
            fresh: Groups that it has and draws in flight; none has ended its first use.
            used: Of each group that has and may be used again, the uses left.
        """
        wanted = self.wanted(begin, step, window)
        if not wanted:
            return 0
        takes = math.ceil(wanted / self.groups_per_take)
        uses = min(self.max_uses, takes)
        lacking = wanted - fresh * uses - sum(min(left, takes) for left in used)
        apart = min(wanted, self.groups_per_take) - fresh - len(used)  # the last take may be small
        return max(0, math.ceil(lacking / uses), apart)

    def fresh_of(self, begin: int, window: int = 0) -> int:
        """Count the fresh groups that a whole period trains on.

        Args:
            begin: Learner step at which it begins.
            window: Groups of history there are then.
        """
        return replace(self, surplus=0.0).missing(begin, begin, window=window)

    def plan(self) -> Iterator[tuple[int, int]]:
        """Foresee the run: where each period ends, and how many fresh groups it trains on.

        As if no step were skipped.
        """
        begin = 0
        recent: deque[int] = deque(maxlen=self.history.iterations if self.history else 0)
        while begin < self.max_steps:
            recent.append(fresh := self.fresh_of(begin, sum(recent)))
            begin = self.period_end(begin, begin)
            yield begin, fresh

    def droppable(self, begin: int, window: int = 0) -> float:
        """Count the groups that a filter may drop in a period.

        Args:
            begin: Learner step at which it begins.
            window: Groups of history there are then.
        """
        return self.max_dropped * self.fresh_of(begin, window)

    def max_in_engine(self, deaths: int, lost: int) -> int:
        """How many draws may share an engine when one is retried that was `lost` with others.

        One of them may have killed the engine. Ever fewer at a time find it: their numbers
        shrink by equal ratios, so that the try before a draw would fail is made alone, and no draw
        fails for its neighbour's fault.

        Args:
            deaths: Engines that died under the draw, at least 1 and below `max_deaths`.
            lost: Draws that the dead worker held, this one included.
        """
        tries = self.max_deaths - deaths
        return max(1, math.floor(lost ** ((tries - 1) / tries) + 1e-9))

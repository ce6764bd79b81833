"""How many groups a period wants.

Invariants: periods end at multiples of L, whenever the version that feeds them was published; what
is wanted depends on where the served version's period begins and on the learner step alone, so that
a resumed run, or one that was given more steps, wants what it would have wanted had it never
stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from oapl.errors import InputError


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

    def __post_init__(self) -> None:
        if self.capacity < (take := self.groups_per_step * self.mini_batches):
            raise InputError(
                f"replay.capacity is {self.capacity} groups, but one learner step takes "
                f"{take}: no step could ever begin; raise replay.capacity or lower "
                f"learner.batch_size"
            )

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
        takes, rest = divmod(steps, self.mini_batches * self.updates_per_batch)
        return self.groups_per_step * (takes * self.mini_batches + min(rest, self.mini_batches))

    def wanted(self, begin: int, step: int) -> int:
        """Count the groups that a period can still use: all of them, when it has yet to begin.

        Args:
            begin: Learner step at which it began, or will begin.
            step: Learner steps made.

        Returns:
            Those of its steps to come, and the surplus of the whole period.
        """
        end = self.period_end(begin, step)
        if step >= end:
            return 0
        # Not the plain ceiling: 0.1 * 30 is 3.0000000000000004.
        surplus = math.ceil(self.surplus * self.groups_of(end - begin) - 1e-9)
        return self.groups_of(end - max(step, begin)) + surplus

    def droppable(self, begin: int) -> float:
        """Count the groups that a filter may drop in the period that begins at a learner step."""
        return self.max_dropped * self.groups_of(self.period_end(begin, begin) - begin)

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

"""Kept groups: buffered, of the period to come, leased to the learner, or used before.

Invariants: a group whose first use has not ended is in one of the first three, in order of arrival;
`Ledger` says what that means for the draw behind it. One that was used is in none of them: within
its period it may be leased again (`oapl.replay.uses`), in later iterations lent
(`oapl.replay.history`), where `periods` says so.
"""

from __future__ import annotations

from collections.abc import Collection

from oapl.records import CreditedGroup, Group, Prompt, State
from oapl.replay.history import Window
from oapl.replay.periods import PeriodNeeds
from oapl.replay.uses import Uses


class Groups:
    """The two buffers, the leases, and the groups that were used.

    Args:
        periods: What a period wants, and what may be used again.
        seed: From which the order of later uses and the choice of history follow.

    Attributes:
        buffer: Of the period in training, by id.
        ahead: Of the period that will follow.
        leased: With the learner, for the first time.
        window: History.
    """

    def __init__(self, periods: PeriodNeeds, seed: int) -> None:
        self.buffer: dict[str, CreditedGroup] = {}
        self.ahead: dict[str, CreditedGroup] = {}
        self.leased: dict[str, CreditedGroup] = {}
        self.window = Window(periods, seed)
        self._periods = periods
        self._uses = Uses(periods.max_uses, seed)
        self._again = (0, 0)

    @property
    def num_unused(self) -> int:
        """Groups whose first use has not ended."""
        return len(self.buffer) + len(self.ahead) + len(self.leased)

    @property
    def num_leased(self) -> int:
        """Groups that the learner has, but for what it was lent of history."""
        return len(self.leased) + len(self._uses.leased)

    def need(self, begin: int, step: int, in_flight: int, behind: int = 0, lost: int = 0) -> int:
        """Count the draws that the served version's period still needs and that there is room for.

        Args:
            begin: Learner step at which it begins.
            step: Learner steps made.
            in_flight: Draws that workers hold.
            behind: Others, of the version before.
            lost: Groups that the period in training will take from this one.
        """
        here = self.num_unused + in_flight + behind
        missing = self._periods.missing(
            begin,
            step,
            fresh=len(self.ahead) + in_flight - lost if begin > step else here - behind,
            used=self._uses.left,
            window=len(self.window),
        )
        return min(missing, self._periods.capacity - here - len(self._uses))

    def can_take(self, count: int, step: int, *, all_came: bool) -> bool:
        """Tell whether there are so many groups.

        Args:
            count: Of the take.
            step: Learner steps made.
            all_came: No more group will come in this period; only then is one used again.
        """
        there = len(self.buffer) + (len(self._uses) if all_came else 0)
        return there >= self._periods.fresh(count, step, len(self.window))

    def missing(self, count: int, step: int) -> int:
        """Count the groups that have yet to come before so many can be taken.

        Args:
            count: Of the take.
            step: Learner steps made.
        """
        return max(0, self._periods.fresh(count, step, len(self.window)) - len(self.buffer))

    def take(self, count: int, begin: int, step: int) -> list[CreditedGroup]:
        """Lease the `count` oldest groups, or what there is of them.

        The oldest are those of the oldest version, and among them those that arrived first. Groups
        that are used again, and history, come after them. Without a fresh group no history is lent,
        and with too few fresh ones as much less of it.

        Args:
            count: Of the take.
            begin: Learner step at which the period began.
            step: Learner steps made.
        """
        fresh = self._periods.fresh(count, step, len(self.window))
        ids = sorted(self.buffer, key=lambda id: self.buffer[id].scored.group.version)[:fresh]
        groups = [self.buffer.pop(id) for id in ids]
        self.leased.update(zip(ids, groups, strict=True))
        again = self._uses.lease(fresh - len(groups), begin)
        lent = self.window.lend((count - fresh) * len(groups) // fresh, step)
        self._again = len(again), len(lent)
        return [*groups, *again, *lent]

    def used_again(self) -> tuple[int, int]:
        """Tell once, when the leases of a take are closed, what came again in it.

        Returns:
            Groups of the period, and of history.
        """
        again, self._again = self._again, (0, 0)
        return again

    def lacking(self, begin: int, step: int) -> int:
        """Count the groups that have yet to come before a period that was led has all it trains on.

        Args:
            begin: Learner step at which the next one begins.
            step: Learner steps made.
        """
        if begin <= step:
            return 0
        return max(0, self._periods.groups_of(begin - step) - len(self.leased) - len(self.buffer))

    def fill(self, count: int) -> int:
        """Let the oldest groups of the next period take the places of those that will not come.

        Args:
            count: Most of them.

        Returns:
            How many there were.
        """
        ids = list(self.ahead)[:count]
        self.buffer.update((id, self.ahead.pop(id)) for id in ids)
        return len(ids)

    def close(self, id: str, *, is_applied: bool) -> Prompt | None:
        """End a lease.

        Args:
            id: Of the group.
            is_applied: Whether a learner step on it was applied; else, if this was its first use,
                it is not used again.

        Returns:
            The draw that has its fate now; None after a later use.
        """
        group = self.leased.pop(id, None)
        if group is None:
            self._uses.close(id)
            return None
        if is_applied:
            self._uses.add(group)
            self.window.add(group)
        return group.scored.group.prompt

    def is_leased(self, id: str) -> bool:
        """Whether the learner has the group, for the first time or again."""
        return id in self.leased or id in self._uses.leased

    def turn(self) -> None:
        """Begin the period that follows: its groups are the buffer now."""
        assert not self.buffer, f"{len(self.buffer)} groups outlived their period"
        self.buffer, self.ahead = self.ahead, {}

    def clear(self, keep: int, usable: Collection[int]) -> list[Group]:
        """Throw away what a publication makes too old.

        Args:
            keep: So many of the oldest stay, whatever their version.
            usable: Versions whose groups stay.

        Returns:
            What was thrown away without a use, in order of arrival.
        """
        beyond = [group.scored.group for group in list(self.buffer.values())[keep:]]
        cleared = [group for group in beyond if group.version not in usable]
        for group in cleared:
            del self.buffer[group.prompt.id]
        self._uses.clear()
        return cleared

    def empty(self) -> list[Prompt]:
        """Give up all groups that were not used; the draws behind them."""
        places = (self.leased, self.buffer, self.ahead)
        prompts = [group.scored.group.prompt for place in places for group in place.values()]
        for place in places:
            place.clear()
        return prompts

    def state(self) -> State:
        """What `restore` needs; leased groups as buffered."""
        return {
            "buffer": [*self.leased.values(), *self.buffer.values()],
            "ahead": list(self.ahead.values()),
            **self._uses.state(),
            **self.window.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self.buffer = {group.id: group for group in state["buffer"]}
        self.ahead = {group.id: group for group in state["ahead"]}
        self._uses.restore(state)
        self.window.restore(state)

"""Groups of earlier iterations, lent once more beside fresh ones: the history of ReMix.

Invariants: a group comes here when it was trained on, never when its step was dropped, and its fate
is that; it stays for the next N iterations, however often it is lent; what is lent is marked
`is_history`, and needs no lease. From iteration `until` on there is no history. Which groups a take
is lent follows from seed, iteration and the window alone, so that a resumed run is lent the same.

Source: ReMix (arXiv 2507.06892), sections 3.1 and 3.4: batches of p historical and 1 - p fresh
data, over the last N policies. The distribution over the window is not published. Our reading: it
is uniform over the window's groups, each at most once in a take; so it is uniform over its policies
where they have equally many groups.
"""

from __future__ import annotations

from dataclasses import replace

from oapl.records import CreditedGroup, State
from oapl.replay.chance import seeded_order
from oapl.replay.periods import PeriodNeeds


class Window:
    """The groups trained on in the last N iterations.

    Args:
        periods: What the objective wants of history, and how long an iteration is.
        seed: The run's.
    """

    def __init__(self, periods: PeriodNeeds, seed: int) -> None:
        self._periods = periods
        self._seed = seed
        self._groups: dict[str, CreditedGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: CreditedGroup) -> None:
        """Take in a group that was trained on."""
        self._groups[group.id] = group

    def expire(self, step: int) -> None:
        """Let go what is too old for the iteration that begins at a learner step.

        A group's version is the learner step at which its iteration began: there is one take a
        period, and no lead.
        """
        history = self._periods.history
        if history is None or not self._periods.is_mixed(step):
            self._groups.clear()
            return
        oldest = step - history.iterations * self._periods.steps_per_take
        self._groups = {
            id: group for id, group in self._groups.items() if group.scored.group.version >= oldest
        }

    def lend(self, count: int, step: int) -> list[CreditedGroup]:
        """Draw groups without replacement, each equally likely.

        Args:
            count: At most as many as there are.
            step: Learner step at which the iteration begins.
        """
        ids = seeded_order(self._groups, self._seed, "history", step)[:count]
        return [replace(self._groups[id], is_history=True) for id in ids]

    def state(self) -> State:
        """What `restore` needs."""
        return {"history": list(self._groups.values())}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._groups = {group.id: group for group in state["history"]}

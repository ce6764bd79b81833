"""Groups that were used and may be leased again in their period: `replay.max_uses`.

Invariants: a group comes here with its first use, which is its fate, and leaves with its last one
or with its period; it is leased again only when no group waits for its first use, the least used
first; among equals the order follows from seed, period and number of uses alone, so that each pass
has a new one and a resumed run repeats it.

Source: OAPL (arXiv 2602.19362), section 5.2, whose code runs make several epochs over the groups
between two synchronisations. That each pass has an order of its own is our reading.
"""

from __future__ import annotations

from oapl.records import CreditedGroup, State
from oapl.replay.chance import seeded_order


class Uses:
    """The used groups of a period.

    Args:
        max_uses: How often a group may be used; with 1 none ever stays here.
        seed: The run's.
    """

    def __init__(self, max_uses: int, seed: int) -> None:
        self._max_uses = max_uses
        self._seed = seed
        self._groups: dict[str, CreditedGroup] = {}
        self._numbers: dict[str, int] = {}  # closed uses of each
        self._leased: set[str] = set()

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def left(self) -> list[int]:
        """Uses to come of each group here, those under way included."""
        return [self._max_uses - number for number in self._numbers.values()]

    @property
    def leased(self) -> frozenset[str]:
        """Of the groups here, those that the learner has."""
        return frozenset(self._leased)

    def add(self, group: CreditedGroup, number: int = 1) -> None:
        """Take in a group after its first use.

        Args:
            group: Trained on.
            number: Uses so far.
        """
        if number < self._max_uses:
            self._groups[group.id], self._numbers[group.id] = group, number

    def lease(self, count: int, begin: int) -> list[CreditedGroup]:
        """Lease groups again, or what there is of them.

        Args:
            count: Most groups.
            begin: Learner step at which their period began.
        """
        levels: dict[int, list[str]] = {}
        for id, number in self._numbers.items():
            levels.setdefault(number, []).append(id)
        ids = [
            id
            for number in sorted(levels)
            for id in seeded_order(levels[number], self._seed, "use", begin, number)
        ][:count]
        self._leased.update(ids)
        return [self._groups[id] for id in ids]

    def close(self, id: str) -> None:
        """Count a later use, applied or skipped; the last one ends the group's stay."""
        assert id in self._leased, f"group {id} was used again without a lease"
        self._leased.remove(id)
        self.add(self._groups.pop(id), self._numbers.pop(id) + 1)

    def clear(self) -> None:
        """Let all go, at the end of their period."""
        assert not self._leased, f"a period ended with {len(self._leased)} groups leased again"
        self._groups.clear()
        self._numbers.clear()

    def state(self) -> State:
        """What `restore` needs; what is leased counts as if it were not."""
        return {"used": [(group, self._numbers[id]) for id, group in self._groups.items()]}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        for group, number in state["used"]:
            self.add(group, number)

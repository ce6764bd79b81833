"""A seeded, resumable order over things that can be counted, to which sources may be added.

Sources that began together are a block with a cursor of its own, (epoch, position), which says all
that is needed to go on (`layouts`). A run that goes on with further sources, behind those that it
had, gets another block, and what was there and what is new take turns by weights, or sizes.
Invariant: the draws of a block are the same and in the same order whatever joins it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from oapl.errors import CheckpointError
from oapl.records import State
from oapl.replay.layouts import Rows, counts_of, layout_of, turns_of

TURNS_STREAM = 0x0DE7
"""Keeps the turns of blocks apart from every other use of the run's seed."""

OTHER_DATA = (
    "the data is not that of the checkpoint: rows, their tokens (the chat template, "
    "data.template_options, data.date), weights, labels or data.overlong have changed, so the "
    "order cannot go on; restore them (data.date is the day on which the run began), or start a "
    "new run from the checkpoint's model"
)
"""What is said of problems and examples."""
JOINING = (
    "; further sources may join, behind the others, which stay as they were, with their weights in "
    "the same proportions"
)
OTHER_SET = (
    "the stored groups are not those of the checkpoint: a folder of replay.path, or the order of "
    "these, has changed, so the order of rollouts cannot go on; restore them, or start a new run "
    "from the checkpoint's model"
)
"""What is said of stored groups."""


class DrawOrder:
    """Which row comes next: a seeded order per epoch, with a cursor.

    Args:
        sources: Whose rows are counted, one after the other.
        digest: Of all of them and their weights.
        seed: The run's.
        epochs: Passes over the data; 0 is without end.
        shuffle: Else rows come in their own order.
        other_data: What is said where a cursor over other data is to go on.

    Attributes:
        joined: Names of the sources that the restored cursor knew nothing of.

    Raises:
        InputError: A weight is so small that its source would not be drawn.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        digest: str,
        *,
        seed: int,
        epochs: int = 0,
        shuffle: bool = True,
        other_data: str = OTHER_DATA + JOINING,
    ) -> None:
        self._sources = tuple(sources)
        self._digest = digest
        self._seed = seed
        self._epochs = epochs
        self._shuffle = shuffle
        self._other_data = other_data
        self._blocks: list[_Block] = []
        self._turns: list[_Turns] = []  # between all blocks up to one, and the next
        self.joined: tuple[str, ...] = ()
        self._begin(self._sources)

    def _begin(self, sources: Sequence[Rows]) -> None:
        """Add a block of sources, which take turns with all before them."""
        first = sum(len(block.sources) for block in self._blocks)
        start = sum(block.size for block in self._blocks)
        block = _Block(sources, self._seed, self._epochs, self._shuffle, first, start)
        if self._blocks:
            sides = self._sources[:first], self._sources[first : first + len(sources)]
            counts = counts_of(start + block.size, {_named(side): _share(side) for side in sides})
            self._turns.append(_Turns(counts, (self._seed, TURNS_STREAM, first), self._shuffle))
        self._blocks.append(block)

    def next(self) -> tuple[int, int] | None:
        """Draw (row, pass), both from 0; None when the last epoch is over."""
        return self._next(len(self._blocks) - 1)

    def _next(self, last: int) -> tuple[int, int] | None:
        """Draw from the blocks up to one; while one side is over, the other has all turns."""
        if not last:
            return self._blocks[0].next()
        if self._turns[last - 1].next():
            return self._blocks[last].next() or self._next(last - 1)
        return self._next(last - 1) or self._blocks[last].next()

    @property
    def passes(self) -> float:
        """Passes so far, over the sources that were there first."""
        return self._blocks[0].passes

    def state(self) -> State:
        """The cursor, for `restore`."""
        return {
            "data": self._digest,
            "weights": {source.name: source.weight for source in self._sources},
            "blocks": [block.state() for block in self._blocks],
            "turns": [turns.state() for turns in self._turns],
        }

    def take_over(self, state: State) -> bool:
        """Go on after the draw at which `state` was taken, if `restore` can.

        Args:
            state: A cursor, or the state of something else.

        Returns:
            False when it cannot; nothing has changed then.
        """
        try:
            if "data" in state:
                self.restore(state)
        except CheckpointError:
            return False
        return "data" in state

    def restore(self, state: State) -> None:
        """Go on after the draw at which `state` was taken.

        Raises:
            CheckpointError: It was taken over other data.
            InputError: The weight of a source that joins is too small.
        """
        if "blocks" not in state:  # of a build that knew one block
            self._demand(state["data"] == self._digest)
            state = self.state() | {"blocks": [self._blocks[0].state() | state]}
        number = len(state["weights"])
        self._demand(state["data"] == self._digest or number < len(self._sources))
        parts = self._parts(state)
        self._blocks, self._turns = [], []
        for part, saved in zip(parts, state["blocks"], strict=True):
            self._begin(part)
            self._blocks[-1].restore(saved)
        for turns, saved in zip(self._turns, state["turns"], strict=True):
            turns.restore(saved)
        self.joined = tuple(source.name for source in self._sources[number:])
        if self.joined:
            self._begin(self._sources[number:])

    def _parts(self, state: State) -> list[tuple[Rows, ...]]:
        """The sources of each block, with the weights by which it was laid out."""
        old = self._sources[: len(state["weights"])]
        then = [source.weighing(state["weights"].get(source.name, 0.0)) for source in old]
        self._demand(np.allclose(_proportions(old), _proportions(then)))
        parts, first = [], 0
        for saved in state["blocks"]:
            part = old[first : first + len(saved["sources"])]
            first += len(part)
            digests = {source.name: source.digest for source in part}
            self._demand([*digests.items()] == [*saved["sources"].items()])
            parts.append(tuple(source.weighing(saved["weights"][source.name]) for source in part))
        return parts

    def _demand(self, holds: bool) -> None:
        if not holds:
            raise CheckpointError(self._other_data)


class _Block:
    """Sources that began together, laid out epoch by epoch.

    Args:
        sources: With the weights that they have among themselves.
        seed, epochs, shuffle: As of `DrawOrder`.
        first: Sources before these.
        start: Rows before these.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        seed: int,
        epochs: int,
        shuffle: bool,
        first: int,
        start: int,
    ) -> None:
        self.sources = tuple(sources)
        self.size = sum(source.size for source in sources)
        self.first = first
        self._start = start
        self._epochs = epochs
        self._layout = layout_of(sources, seed=seed, shuffle=shuffle, first=first)
        self._epoch = self._position = 0
        self._rows, self._passes = self._layout(0)

    def next(self) -> tuple[int, int] | None:
        if self._position == self.size:
            self._epoch, self._position = self._epoch + 1, 0
            self._rows, self._passes = self._layout(self._epoch)
        if self._epochs and self._epoch >= self._epochs:
            return None
        row, turn = int(self._rows[self._position]), int(self._passes[self._position])
        self._position += 1
        return self._start + row, turn

    @property
    def passes(self) -> float:
        return self._epoch + self._position / self.size

    def state(self) -> State:
        return {
            "sources": {source.name: source.digest for source in self.sources},
            "weights": {source.name: source.weight for source in self.sources},
            "epoch": self._epoch,
            "position": self._position,
        }

    def restore(self, state: State) -> None:
        self._epoch, self._position = state["epoch"], state["position"]
        self._rows, self._passes = self._layout(self._epoch)


class _Turns:
    """Whose turn it is: of what was there, or of the block that joined.

    Args:
        counts: Draws of either in as many as there are rows.
        key: Seeds the order.
        shuffle: Else they take turns evenly.
    """

    def __init__(self, counts: Sequence[int], key: tuple[int, ...], shuffle: bool) -> None:
        self._counts = counts
        self._key = key
        self._shuffle = shuffle
        self._restart(0, 0)

    def _restart(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._owners = turns_of(self._counts, (*self._key, epoch), self._shuffle)

    def next(self) -> bool:
        """Whether the newer block is next."""
        if self._position == len(self._owners):
            self._restart(self._epoch + 1, 0)
        self._position += 1
        return bool(self._owners[self._position - 1])

    def state(self) -> State:
        return {"counts": self._counts, "epoch": self._epoch, "position": self._position}

    def restore(self, state: State) -> None:
        self._counts = state["counts"]
        self._restart(state["epoch"], state["position"])


def _named(sources: Iterable[Rows]) -> str:
    return ", ".join(source.name for source in sources)


def _share(sources: Sequence[Rows]) -> float:
    """What all of them weigh together; their rows, where they have no weights."""
    return sum(source.weight or source.size for source in sources)


def _proportions(sources: Sequence[Rows]) -> list[float]:
    return [(source.weight or source.size) / _share(sources) for source in sources]

"""A seeded, resumable order over things that can be counted."""

from __future__ import annotations

import numpy as np

from oapl.errors import CheckpointError
from oapl.records import State

ORDER_STREAM = 0x0DE5
"""Keeps the data's random numbers apart from every other use of the run's seed."""


OTHER_DATA = (
    "the data is not that of the checkpoint: rows, their tokens (the chat template, "
    "data.template_options, data.date) or data.overlong have changed, so the order cannot go on; "
    "restore them (data.date is the day on which the run began), or start a new run from the "
    "checkpoint's model"
)
"""What is said of problems and examples."""
OTHER_SET = (
    "the stored groups are not those of the checkpoint: a folder of replay.path, or the order of "
    "these, has changed, so the order of rollouts cannot go on; restore them, or start a new run "
    "from the checkpoint's model"
)
"""What is said of stored groups."""


class DrawOrder:
    """Which of `size` rows comes next: a seeded order per epoch, with a cursor.

    Args:
        digest: Of the data; a cursor goes on over the same data only.
        size: Rows of an epoch.
        seed: The run's.
        epochs: Passes over the data; 0 is without end.
        shuffle: Else the rows come in their own order.
        other_data: What is said where a cursor over other data is to go on.
    """

    def __init__(
        self,
        digest: str,
        size: int,
        *,
        seed: int,
        epochs: int,
        shuffle: bool,
        other_data: str = OTHER_DATA,
    ) -> None:
        self._digest = digest
        self._size = size
        self._seed = seed
        self._epochs = epochs
        self._shuffle = shuffle
        self._other_data = other_data
        self._epoch = self._position = 0
        self._order = self._make_order()

    def next(self) -> tuple[int, int] | None:
        """Draw (row, epoch), both from 0; None when the last epoch is over."""
        if self._position == self._size:
            self._epoch, self._position = self._epoch + 1, 0
            self._order = self._make_order()
        if self._epochs and self._epoch >= self._epochs:
            return None
        row = int(self._order[self._position])
        self._position += 1
        return row, self._epoch

    @property
    def passes(self) -> float:
        """Passes over the data so far."""
        return self._epoch + self._position / self._size

    def state(self) -> State:
        """The cursor, for `restore`."""
        return {"epoch": self._epoch, "position": self._position, "data": self._digest}

    def restore(self, state: State) -> None:
        """Go on after the draw at which `state` was taken.

        Raises:
            CheckpointError: It was taken over other data.
        """
        if state["data"] != self._digest:
            raise CheckpointError(self._other_data)
        self._epoch, self._position = state["epoch"], state["position"]
        self._order = self._make_order()

    def _make_order(self) -> np.ndarray:
        if not self._shuffle:
            return np.arange(self._size)
        seeds = [self._seed, ORDER_STREAM, self._epoch]
        return np.random.default_rng(seeds).permutation(self._size)

"""A seeded, resumable order over things that can be counted.

An epoch is as many draws as there are rows. It is laid out as a whole, from its number and the seed
alone, so that a cursor (epoch, position) says all that is needed to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from oapl.errors import CheckpointError, InputError
from oapl.records import State

ORDER_STREAM = 0x0DE5
"""Keeps the data's random numbers apart from every other use of the run's seed."""
MIXTURE_STREAM = 0x0DE6
"""And those by which sources take turns."""

Layout = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""From an epoch's number to its draws: int [rows] each, the row and the pass that it belongs to."""

OTHER_DATA = (
    "the data is not that of the checkpoint: rows, their tokens (the chat template, "
    "data.template_options, data.date), weights or data.overlong have changed, so the order cannot "
    "go on; "
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
        size: Rows, and draws of an epoch.
        epochs: Passes over the data; 0 is without end.
        layout: The draws of an epoch.
        other_data: What is said where a cursor over other data is to go on.
    """

    def __init__(
        self,
        digest: str,
        size: int,
        *,
        epochs: int,
        layout: Layout,
        other_data: str = OTHER_DATA,
    ) -> None:
        self._digest = digest
        self._size = size
        self._epochs = epochs
        self._layout = layout
        self._other_data = other_data
        self._epoch = self._position = 0
        self._rows, self._passes = layout(0)

    def next(self) -> tuple[int, int] | None:
        """Draw (row, pass), both from 0; None when the last epoch is over."""
        if self._position == self._size:
            self._epoch, self._position = self._epoch + 1, 0
            self._rows, self._passes = self._layout(self._epoch)
        if self._epochs and self._epoch >= self._epochs:
            return None
        drawn = int(self._rows[self._position]), int(self._passes[self._position])
        self._position += 1
        return drawn

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
        self._rows, self._passes = self._layout(self._epoch)


def layout_of(
    sizes: Mapping[str, int], weights: Mapping[str, float], *, seed: int, shuffle: bool
) -> Layout:
    """Lay out epochs over several sources.

    Args:
        sizes: Rows by source, in the order in which their rows are counted.
        weights: By source its share of the draws, to any scale; empty: each row once an epoch.
        seed: The run's.
        shuffle: Else the rows of a source come in their own order, and sources take turns evenly.

    Raises:
        InputError: A weight is so small that its source is drawn in no epoch.
    """
    if not weights:
        return partial(_each_once, sum(sizes.values()), seed, shuffle)
    counts = _counts(sum(sizes.values()), [weights[name] for name in sizes])
    for name, count in zip(sizes, counts, strict=True):
        if not count:
            raise InputError(
                f"source {name!r}: weight = {weights[name]:g} gives it none of the {sum(counts)} "
                "draws of an epoch; raise it, or leave the source out"
            )
    return partial(_mixed, tuple(sizes.values()), tuple(counts), seed, shuffle)


def _each_once(size: int, seed: int, shuffle: bool, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(size)
    if shuffle:
        rows = np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(size)
    return rows, np.full(size, epoch)


def _counts(draws: int, weights: list[float]) -> list[int]:
    """Draws of each source in an epoch, by the largest remainders."""
    exact = [draws * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_rest[: draws - sum(counts)]:
        counts[index] += 1
    return counts


def _mixed(
    sizes: tuple[int, ...], counts: tuple[int, ...], seed: int, shuffle: bool, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each source goes through its own rows, pass after pass, across epochs."""
    starts = np.cumsum((0, *sizes))
    rows, passes = [], []
    for source, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        drawn = np.arange(epoch * count, (epoch + 1) * count)
        orders = {
            turn: np.random.default_rng([seed, ORDER_STREAM, source, turn]).permutation(size)
            if shuffle
            else np.arange(size)
            for turn in range(int(drawn[0]) // size, int(drawn[-1]) // size + 1)
        }
        own = [orders[turn][place] for turn, place in (divmod(int(n), size) for n in drawn)]
        rows.append(starts[source] + np.array(own))
        passes.append(drawn // size)
    # Where each draw of each source stands; `stable` keeps a source's own order.
    when = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    turns = np.argsort(when, kind="stable")
    if shuffle:
        owners = np.repeat(np.arange(len(counts)), counts)
        shuffled = np.random.default_rng([seed, MIXTURE_STREAM, epoch]).permutation(owners)
        turns = np.argsort(np.argsort(shuffled, kind="stable"), kind="stable")
    return np.concatenate(rows)[turns], np.concatenate(passes)[turns]

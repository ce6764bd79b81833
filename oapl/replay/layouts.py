"""How the draws of an epoch are laid out over the rows of one or several sources: pure.

An epoch is as many draws as there are rows, laid out as a whole from its number and the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from oapl.errors import InputError

ORDER_STREAM = 0x0DE5
"""Keeps the data's random numbers apart from every other use of the run's seed."""
MIXTURE_STREAM = 0x0DE6
"""And those by which sources take turns."""

Layout = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""From an epoch's number to its draws: int [rows] each, the row and the pass that it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The rows of a source, as far as their order goes.

    Attributes:
        name: Of the source.
        size: How many there are.
        digest: Of what they say, and of how they are ordered; a cursor goes on over the same alone.
        weight: Its share of the draws, to any scale; 0 where sources have none.
        ease: float [size]: the rows of a pass are drawn from the largest to the smallest, equal
            ones as they come otherwise; None where they have no such order.
    """

    name: str
    size: int
    digest: str
    weight: float = 0.0
    ease: np.ndarray | None = None

    def weighing(self, weight: float) -> Rows:
        """The same with another weight."""
        return replace(self, weight=weight)

    def ordered(self, rows: np.ndarray) -> np.ndarray:
        """Put rows, int [size], into the order that the source wants."""
        if self.ease is None:
            return rows
        return rows[np.argsort(-self.ease[rows], kind="stable")]


def layout_of(sources: Sequence[Rows], *, seed: int, shuffle: bool, first: int = 0) -> Layout:
    """Lay out epochs over several sources.

    Args:
        sources: In the order in which their rows are counted; with weights, or each row comes once
            an epoch.
        seed: The run's.
        shuffle: Else the rows of a source come in their own order, and sources take turns evenly.
        first: Sources before these, which are laid out apart.

    Raises:
        InputError: A weight is so small that its source is drawn in no epoch.
    """
    if not sources[0].weight:
        return partial(_each_once, tuple(sources), seed, first, shuffle)
    size = sum(source.size for source in sources)
    weights = {source.name: source.weight for source in sources}
    return partial(_mixed, tuple(sources), counts_of(size, weights), seed, first, shuffle)


def counts_of(draws: int, weights: Mapping[str, float]) -> tuple[int, ...]:
    """Share out the draws of an epoch, by the largest remainders.

    Args:
        draws: Of the epoch.
        weights: By name the shares, to any scale.

    Raises:
        InputError: One is left without any.
    """
    total = sum(weights.values())
    exact = [draws * weight / total for weight in weights.values()]
    counts = [int(share) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_rest[: draws - sum(counts)]:
        counts[index] += 1
    for name, count in zip(weights, counts, strict=True):
        if not count:
            raise InputError(
                f"source {name!r}: weight = {weights[name]:g} gives it none of the {draws} "
                "draws of an epoch; raise it, or leave the source out"
            )
    return tuple(counts)


def turns_of(counts: Sequence[int], key: Sequence[int], shuffle: bool) -> np.ndarray:
    """Say whose turn each draw of an epoch is.

    Args:
        counts: Draws of each.
        key: Seeds the order.
        shuffle: Else they take turns evenly.

    Returns:
        int [sum of counts], from 0.
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    if shuffle:
        return np.random.default_rng(list(key)).permutation(owners)
    when = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return owners[np.argsort(when, kind="stable")]


def _each_once(
    sources: tuple[Rows, ...], seed: int, first: int, shuffle: bool, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([source.size for source in sources])
    size = int(ends[-1])
    rows = np.arange(size)
    if shuffle:
        apart = (first,) if first else ()
        rows = np.random.default_rng([seed, ORDER_STREAM, *apart, epoch]).permutation(size)
    owners = np.searchsorted(ends, rows, side="right")
    for index, source in enumerate(sources):
        if source.ease is not None:
            own = owners == index
            start = ends[index] - source.size
            rows[own] = start + source.ordered(rows[own] - start)
    return rows, np.full(size, epoch)


def _mixed(
    sources: tuple[Rows, ...],
    counts: tuple[int, ...],
    seed: int,
    first: int,
    shuffle: bool,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Each source goes through its own rows, pass after pass, across epochs."""
    apart = (first,) if first else ()
    turns = turns_of(counts, (seed, MIXTURE_STREAM, *apart, epoch), shuffle)
    rows, passes = np.empty_like(turns), np.empty_like(turns)
    start = 0
    for index, (source, count) in enumerate(zip(sources, counts, strict=True)):
        own = np.flatnonzero(turns == index)
        turn, place = np.divmod(np.arange(epoch * count, (epoch + 1) * count), source.size)
        for number in range(int(turn[0]), int(turn[-1]) + 1):
            order, here = np.arange(source.size), turn == number
            if shuffle:
                key = [seed, ORDER_STREAM, first + index, number]
                order = np.random.default_rng(key).permutation(source.size)
            rows[own[here]] = start + source.ordered(order)[place[here]]
        passes[own] = turn
        start += source.size
    return rows, passes

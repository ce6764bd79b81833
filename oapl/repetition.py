"""How much a response repeats itself, and whether it ends going round in circles."""

from __future__ import annotations

import numpy as np

N = 4
"""Tokens of an n-gram."""
FACTORS = np.random.default_rng(0).integers(2**64, size=N, dtype=np.uint64) | np.uint64(1)
LONGEST_BLOCK = 32
TIMES = 4
LEAST_LOOP = 16
"""Tokens: an answer of a few equal digits is no loop."""


def repetition_rate(token_ids: np.ndarray) -> float:
    """Share of a response's 4-grams that have stood in it before: 1 - different ones / all.

    Args:
        token_ids: int32 [T].

    Returns:
        From 0; towards 1 for a response that goes round in circles; 0 below five tokens.

    Source: seq-rep-4 of Welleck et al., "Neural text generation with unlikelihood training"
    (arXiv 1908.04319, section 6.1), over tokens.
    """
    count = len(token_ids) - N + 1
    if count < 2:
        return 0.0
    ids = token_ids.astype(np.uint64)
    grams = np.zeros(count, np.uint64)  # hashed to 64 bits: one in 2^64 pairs is taken for equal
    for place, factor in enumerate(FACTORS):
        grams += ids[place : place + count] * factor
    return 1.0 - _num_different(grams) / count


def _num_different(values: np.ndarray) -> int:
    """Count different values, in a quarter of the time that sorting takes, or less: the replay
    buffer spent most of its time on that.

    A value lies in the slot that its highest bits name. One value of a slot stands for its equals;
    what fell into a slot beside them, few, is sorted.

    Args:
        values: uint64 [N], hashed.
    """
    bits = len(values).bit_length() + 3  # 8 to 16 slots a value
    slots = (values >> np.uint64(64 - bits)).astype(np.intp)
    places = np.arange(len(values))
    holder = np.empty(1 << bits, np.intp)  # read only where it was written
    holder[slots] = places
    holders = holder[slots]
    others = values[values[holders] != values]
    return int(np.count_nonzero(holders == places)) + len(np.unique(others))


def ends_in_loop(token_ids: np.ndarray) -> bool:
    """Whether a response ends in a block of at most `LONGEST_BLOCK` tokens that stands there
    `TIMES` times in a row, and is at least `LEAST_LOOP` tokens of it: empty tags again and again.

    Args:
        token_ids: int32 [T].
    """
    backwards = token_ids[: -LONGEST_BLOCK - 2 : -1].tolist()
    for block in range(1, LONGEST_BLOCK + 1):
        length = max(TIMES * block, -(-LEAST_LOOP // block) * block)
        if length > len(token_ids) or backwards[block] != backwards[0]:
            continue
        end = token_ids[-length:]
        if np.array_equal(end[block:], end[:-block]):
            return True
    return False

"""The probe: sequences whose log-probs an engine must reproduce after loading a version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from oapl.batching import Packable, pack
from oapl.records import Batch, MicroBatch

TOKENS = 12
"""Of a probe sequence: wrong weights show in a few, and engines stand still meanwhile."""


def sequences(
    batch: Batch | None, count: int, *, vocab_size: int, version: int
) -> list[np.ndarray]:
    """Choose the ends of the latest batch's rollouts, spread over its lengths, then, for a version
    that nothing was trained for, random valid ids.

    Args:
        batch: The latest; None before the first.
        count: How many sequences.
        vocab_size: Ids are below it.
        version: Seed of the random ones.

    Returns:
        `count` sequences, int32 [T], T at most `TOKENS`.
    """
    found = list(_rollouts(batch)) if batch else []
    if len(found) > count:
        found = [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]
    chance = np.random.default_rng(version)
    while len(found) < count:
        found.append(chance.integers(vocab_size, size=TOKENS, dtype=np.int32))
    return found


def packed(
    probe: Sequence[np.ndarray], micro_batch_tokens: int, row_tokens: int
) -> list[MicroBatch]:
    """Pack the probe: every token but a sequence's first counts as response.

    Args:
        probe: Sequences, int32 [T].
        micro_batch_tokens, row_tokens: As `oapl.batching.pack` takes them.

    Returns:
        Micro-batches; which sequence of the probe a rollout is stands in its `group_index`.
    """
    return pack(
        [
            Packable(prompt_ids=ids[:1], response_ids=ids[1:], group_index=number)
            for number, ids in enumerate(probe)
        ],
        micro_batch_tokens=micro_batch_tokens,
        row_tokens=row_tokens,
    )


def _rollouts(batch: Batch) -> Iterator[np.ndarray]:
    for micro_batch in batch.micro_batches:
        index = micro_batch.rollout_index
        for rollout in range(micro_batch.num_rollouts):
            yield micro_batch.token_ids[index == rollout][-TOKENS:].astype(np.int32)

"""Lives of learners one after the other, each with another number of ranks and another ZeRO stage,
in processes that need no Ray."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.support.clusters import free_ports

DEADLINE_S = 300.0


class Processes:
    """As many as there are ranks, each of which makes one trainer after the other."""

    def __init__(self, pool: ProcessPoolExecutor, num_ranks: int) -> None:
        self._pool, self._num_ranks = pool, num_ranks

    def live(self, config: Any, came: Path | None, went: Path) -> dict[str, Any]:
        """Go on from a checkpoint, or begin; save; make one more iteration.

        Args:
            config: The run's, but for the number of ranks.
            came: The checkpoint; None begins, makes an iteration and sets the reference anew.
            went: Where to save before the last iteration.

        Returns:
            Rank 0's `weights` at the save, and `after` the last iteration, by name.
        """
        config = replace(config, learner=replace(config.learner, num_ranks=self._num_ranks))
        (port,) = free_ports(1)
        lives = [
            self._pool.submit(_life, rank, self._num_ranks, port, config, came, went)
            for rank in range(self._num_ranks)
        ]
        found, *_ = [one.result(DEADLINE_S) for one in lives]
        return found


@contextmanager
def processes(num_ranks: int) -> Iterator[Processes]:
    """Start them; they end with the block."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_ranks, mp_context=context) as pool:
        yield Processes(pool, num_ranks)


def _life(
    rank: int, num_ranks: int, port: int, config: Any, came: Path | None, went: Path
) -> dict[str, Any]:
    from learner import trainer as trainers
    from oapl.batching import shard
    from tests.support import ranks

    torch.set_num_threads(1)
    batches = [
        shard([group], step=0, num_ranks=num_ranks, mini_batch=i, **ranks.LIMITS)[rank]
        for i, group in enumerate(ranks.grpo_groups())
    ]

    def iterate(trainer: Any) -> dict[str, Any]:
        trainer.prepare(batches)
        for batch in batches * config.learner.updates_per_batch:
            metrics: dict[str, Any] = trainer.update(batch)
        return metrics

    with ranks.everything_sharded():
        trainer = trainers.build(config, rank=rank, world_size=num_ranks, master_port=port)
        if came is None:
            iterate(trainer)
            trainer.reset_reference(keeps_optimizer=True)
            iterate(trainer)
        else:
            trainer.load(came)
        trainer.save(went)
        kept = ranks.weights(trainer)
        metrics = iterate(trainer)
        found = {"weights": kept, "after": ranks.weights(trainer), "metrics": metrics}
        trainer.close()
    return found

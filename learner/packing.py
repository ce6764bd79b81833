"""Mini-batches as the ranks take them, packed ahead where it is known what comes.

Invariant: what was packed ahead is used for the very step and groups that it was packed for alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learner.surroundings import Foresee
from oapl import batching
from oapl.config import RunConfig
from oapl.records import Batch, CreditedGroup, MiniBatch

Wanted = Callable[[Sequence[CreditedGroup], int], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Packed:
    """Batches of the groups with these ids, one per rank, for one learner step."""

    step: int
    ids: list[str]
    batches: list[Batch]


class Packing:
    """Divides a mini-batch among the ranks.

    Args:
        config: The run's.
        num_ranks: How many.
        at_temperature: Whether the objective compares with what was sampled at one.
        foresee: None where nobody knows what comes.
        wanted: Given groups and the learner steps made before theirs, those whose log-probs are
            kept.
    """

    def __init__(
        self,
        config: RunConfig,
        num_ranks: int,
        *,
        at_temperature: bool,
        foresee: Foresee | None,
        wanted: Wanted,
    ) -> None:
        self._config = config
        self._num_ranks = num_ranks
        self._temperature = None if at_temperature else 1.0
        self._foresee = foresee
        self._wanted = wanted
        self._ahead: _Packed | None = None

    def shard(self, part: MiniBatch, step: int) -> list[Batch]:
        """Pack a mini-batch, one batch per rank.

        Args:
            part: Credited groups.
            step: Learner steps made.
        """
        ahead = self._ahead
        if ahead and (ahead.step, ahead.ids) == (step, [group.id for group in part.groups]):
            return ahead.batches
        return batching.shard(
            part.groups,
            step=step,
            num_ranks=self._num_ranks,
            micro_batch_tokens=self._config.learner.micro_batch_tokens,
            row_tokens=self._config.learner.row_tokens,
            mini_batch=part.number,
            temperature=self._temperature,
            kept_groups=self._wanted(part.groups, step),
        )

    async def ahead(self, step: int) -> None:
        """Where it is known what the next take gives, and that is one step's, pack it while the
        ranks compute.

        Args:
            step: Learner steps that will have been made.
        """
        if self._foresee is None or self._config.steps_per_take > 1:
            return
        await asyncio.sleep(0)  # a call is sent when its coroutine is first run
        groups = tuple(self._foresee(self._config.groups_per_step))
        if groups:
            batches = self.shard(MiniBatch(groups=groups, number=0), step)
            self._ahead = _Packed(step, [group.id for group in groups], batches)

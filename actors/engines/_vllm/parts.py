"""The parts in which a publication comes to vLLM's workers: through this process, or straight.

A part that was fetched has touched no model: whatever is wrong with it by itself has been said. The
next one is fetched while the workers load one; at most two exist. Through this process they are
segments of memory that the workers map; straight, chunks that each worker holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from actors.engines._vllm import shared_memory
from oapl.errors import WeightsError
from oapl.interfaces import DirectReceiver, WeightReceiver
from oapl.records import WeightsVersion
from oapl.weights.base import Tensors

FETCH = "fetch_chunk"
"""The method of vLLM's workers, from `actors.engines._vllm.weights`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that can be loaded.

    Attributes:
        update_info: What vLLM's workers are told; plain types.
        close: Call it when they have loaded it, or never will.
    """

    update_info: Mapping[str, Any]
    close: Callable[[], None] = lambda: None


class Parts(Protocol):
    """A publication, part after part."""

    async def fetch(self) -> Part | None:
        """Fetch the next part; None when there is none.

        Raises:
            WeightsError: As of `oapl.interfaces.WeightReceiver.receive`.
        """


def parts_of(receiver: WeightReceiver, weights: WeightsVersion, llm: Any) -> Parts:
    """Choose the way: straight where the transport can, through this process else.

    Args:
        receiver: The transport's end here.
        weights: The publication.
        llm: vLLM's `AsyncLLM`, whose workers hold the model.
    """
    if isinstance(receiver, DirectReceiver):
        return _OfWorkers(receiver, weights, llm)
    return _OfHost(receiver.receive(weights))


class _OfHost:
    """Segments, written here."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    async def fetch(self) -> Part | None:
        segment = await asyncio.to_thread(shared_memory.write, self._tensors)
        return None if segment is None else Part({"address": segment.address}, segment.close)


class _OfWorkers:
    """Chunks, fetched by each worker."""

    def __init__(self, receiver: DirectReceiver, weights: WeightsVersion, llm: Any) -> None:
        self._offers = receiver.offers(weights)
        self._llm = llm

    async def fetch(self) -> Part | None:
        offer = await asyncio.to_thread(next, self._offers, None)
        if offer is None:
            return None
        problems = await self._llm.collective_rpc(FETCH, args=(offer,))
        if problem := next(filter(None, problems), None):
            raise WeightsError(problem)
        return Part({"is_fetched": True})

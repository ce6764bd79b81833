"""Weights through Ray's object store: flat chunks, written once, read by every engine in place.

Each chunk is one object, whose reference is the ticket; it travels nested, so that Ray hands it on
without fetching. An engine on the same node maps a chunk without a copy, one on another node pulls
each once per node. An object dies with the process that put it, and when its last reference goes:
the sender keeps those of the current and the previous version, and of the last one for engines set
aside, and whoever holds a `WeightsVersion` keeps that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import TensorSpec, WeightsVersion
from oapl.weights.base import Offer, Tensors, received

KEPT_VERSIONS = 2


def build_sender(config: RunConfig) -> Sender:
    """The learner's end, in a process that Ray knows."""
    return Sender()


def build_receiver(config: RunConfig) -> Receiver:
    """An engine's end, in a process that Ray knows."""
    return Receiver(timeout_s=config.sync.timeout_s)


class Sender:
    """Puts each chunk into the store; see `oapl.interfaces.WeightSender`."""

    transport = "object_store"

    def __init__(self) -> None:
        self._kept: list[list[Any]] = []
        self._aside: list[Any] = []
        self._newest: list[Any] = []

    def begin(self, version: int, specs: Sequence[TensorSpec], is_aside: bool = False) -> None:
        """Keep references of one more version. See `oapl.interfaces.WeightSender.begin`."""
        self._newest = []
        if is_aside:
            self._aside = self._newest
        else:
            self._kept = [*self._kept, self._newest][-KEPT_VERSIONS:]

    def put(self, number: int, content: np.ndarray) -> Any:
        """Put the chunk into the store. See `oapl.interfaces.WeightSender.put`."""
        import ray

        self._newest.append(ray.put(content))
        return self._newest[-1]

    def close(self) -> None:
        """Let go of what was published."""
        self._kept, self._aside, self._newest = [], [], []


class Receiver:
    """Reads the store; picklable, so that it can be sent to an engine's own process."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """Fetch the tensors. See `oapl.interfaces.WeightReceiver.receive`.

        They are views of the store, read-only.

        Raises:
            WeightsError: The store lost them, or they are not what was announced.
        """
        import ray

        def fetch(offer: Offer) -> np.ndarray:
            try:
                found: np.ndarray = ray.get(offer.ticket, timeout=self._timeout_s)
                return found
            except ray.exceptions.RayError as error:
                raise WeightsError(
                    f"version {weights.version}: a chunk did not come from the object store within "
                    f"{self._timeout_s:g} s ({type(error).__name__})"
                ) from None

        yield from received(weights, fetch, self._timeout_s)

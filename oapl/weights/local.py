"""Weights within one process: the ticket of a chunk is a copy of it.

A copy, since the learner goes on to change its parameters. It lives as long as somebody holds the
`WeightsVersion`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.config import RunConfig
from oapl.records import TensorSpec, WeightsVersion
from oapl.weights.base import Offer, Tensors, received


def build_sender(config: RunConfig) -> Sender:
    """The learner's end."""
    return Sender()


def build_receiver(config: RunConfig) -> Receiver:
    """An engine's end, in the same process."""
    return Receiver(timeout_s=config.sync.timeout_s)


class Sender:
    """Copies each chunk; see `oapl.interfaces.WeightSender`."""

    transport = "local"

    def begin(self, version: int, specs: Sequence[TensorSpec], is_aside: bool = False) -> None:
        """Nothing to prepare. See `oapl.interfaces.WeightSender.begin`."""

    def put(self, number: int, content: np.ndarray) -> np.ndarray:
        """Copy the chunk, uint8 [bytes]. See `oapl.interfaces.WeightSender.put`."""
        return content.copy()

    def close(self) -> None:
        """Nothing to let go of: the copies belong to whoever holds the publication."""


class Receiver:
    """Hands on what it is given."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """Fetch the tensors. See `oapl.interfaces.WeightReceiver.receive`.

        Raises:
            WeightsError: They are not what was announced, or did not come.
        """
        return received(weights, _content, self._timeout_s)


def _content(offer: Offer) -> np.ndarray:
    content: np.ndarray = offer.ticket
    return content

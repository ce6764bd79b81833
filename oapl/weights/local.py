"""Weights within one process: the ticket of a chunk is a copy of it.

A copy, since the learner goes on to change its parameters. It lives as long as somebody holds the
`WeightsVersion`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.config import RunConfig
from oapl.records import Sent, TensorSpec, WeightsVersion
from oapl.weights.base import Tensors, received


def build_sender(config: RunConfig) -> Sender:
    return Sender()


def build_receiver(config: RunConfig) -> Receiver:
    return Receiver(timeout_s=config.sync.timeout_s)


class Sender:
    """Copies each chunk; see `oapl.interfaces.WeightSender`."""

    transport = "local"

    def begin(self, version: int, specs: Sequence[TensorSpec]) -> None: ...

    def put(self, number: int, content: np.ndarray) -> np.ndarray:
        return content.copy()

    def close(self) -> None: ...


class Receiver:
    """Hands on what it is given."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """The tensors in the order of `weights.specs`.

        Raises:
            WeightsError: They are not what was announced, or did not come.
        """
        return received(weights, _content, self._timeout_s)


def _content(sent: Sent) -> np.ndarray:
    content: np.ndarray = sent.ticket
    return content

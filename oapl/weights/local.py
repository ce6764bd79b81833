"""Weights within one process: copies in a class-level store.

A publication is a copy, since the learner goes on to change its parameters. A sender keeps the
current version and the one before it (an engine may still be loading that one); older ones go.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import Probe, WeightsVersion
from oapl.weights.base import Manifest, Tensors, verified

if TYPE_CHECKING:
    from torch import Tensor

KEPT_VERSIONS = 2

Published = list[tuple[str, "Tensor"]]


def build_sender(config: RunConfig) -> Sender:
    return Sender()


def build_receiver(config: RunConfig) -> Receiver:
    return Receiver()


class Sender:
    """Copies each publication into the store; see `oapl.interfaces.WeightSender`."""

    _ids: ClassVar[itertools.count[int]] = itertools.count()
    store: ClassVar[dict[tuple[int, int], Published]] = {}

    def __init__(self) -> None:
        self._id = next(self._ids)
        self._count = itertools.count()
        self._kept: list[tuple[int, int]] = []

    def send(self, version: int, tensors: Tensors, probe: Probe) -> WeightsVersion:
        """Copy the tensors and describe them.

        Raises:
            WeightsError: A tensor is not finite; nothing was published.
        """
        manifest, published = Manifest(version), []
        for name, tensor in tensors:
            manifest.add(name, tensor)
            published.append((name, tensor.detach().clone()))
        key = (self._id, next(self._count))
        self.store[key] = published
        self._kept.append(key)
        while len(self._kept) > KEPT_VERSIONS:
            self.store.pop(self._kept.pop(0), None)
        return WeightsVersion(
            version=version,
            specs=tuple(manifest.specs),
            num_bytes=manifest.num_bytes,
            digest=manifest.digest(),
            transport="local",
            location=key,
            probe=probe,
        )

    def close(self) -> None:
        """Forget what was published."""
        for key in self._kept:
            self.store.pop(key, None)
        self._kept.clear()


class Receiver:
    """Reads the store of this process."""

    def receive(self, weights: WeightsVersion) -> Tensors:
        """The tensors in the order of `weights.specs`.

        Raises:
            WeightsError: The version is no longer kept, or is not what was announced.
        """
        published = Sender.store.get(weights.location)
        if published is None:
            raise WeightsError(
                f"version {weights.version} is not in this process: it is older than the "
                f"{KEPT_VERSIONS} versions kept, or was published by another process "
                f"(sync.transport = 'local' needs cluster.mode = 'local')"
            )
        yield from verified(weights, iter(published))

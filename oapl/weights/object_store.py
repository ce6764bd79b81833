"""Weights through Ray's object store: flat buffers, written once, read by every engine in place.

Tensors are packed into chunks at 64-byte boundaries, each chunk one object; the references travel
in `WeightsVersion.location`, nested, so that Ray hands them on without fetching. An engine on the
same node maps the chunks without a copy, one on another node pulls each once per node. An object
dies with the process that put it, and when its last reference goes: the sender keeps those of the
current and the previous version, and whoever holds a `WeightsVersion` keeps that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import Probe, WeightsVersion
from oapl.weights.base import Manifest, Packer, Place, Tensors, unpacked, verified

CHUNK_BYTES = 128 * 2**20
KEPT_VERSIONS = 2


@dataclass(frozen=True, slots=True)
class Location:
    """Where each tensor lies: (chunk, offset, bytes) in the order of the specs."""

    chunks: tuple[Any, ...]
    places: tuple[Place, ...]


def build_sender(config: RunConfig) -> Sender:
    return Sender()


def build_receiver(config: RunConfig) -> Receiver:
    return Receiver(timeout_s=config.sync.timeout_s)


class Sender:
    """Puts each publication into the store; see `oapl.interfaces.WeightSender`."""

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._kept: list[Location] = []

    def send(self, version: int, tensors: Tensors, probe: Probe) -> WeightsVersion:
        """Pack, put and describe the tensors.

        Raises:
            WeightsError: A tensor is not finite; nothing was published.
        """
        import ray

        manifest, packer = Manifest(version), Packer(self._chunk_bytes, ray.put, is_copied=True)
        for name, tensor in tensors:
            packer.add(manifest.add(name, tensor))
        location = Location(*packer.finish())
        self._kept = [*self._kept, location][-KEPT_VERSIONS:]
        return WeightsVersion(
            version=version,
            specs=tuple(manifest.specs),
            num_bytes=manifest.num_bytes,
            digest=manifest.digest(),
            transport="object_store",
            location=location,
            probe=probe,
        )

    def close(self) -> None:
        """Let go of what was published."""
        self._kept = []


class Receiver:
    """Reads the store; picklable, so that it can be sent to an engine's own process."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """The tensors in the order of `weights.specs`, views of the store.

        Raises:
            WeightsError: The store lost them, or they are not what was announced.
        """
        yield from verified(weights, self._unpack(weights))

    def _unpack(self, weights: WeightsVersion) -> Tensors:
        import ray

        location: Location = weights.location

        def fetch(chunk: int) -> np.ndarray:
            try:
                found: np.ndarray = ray.get(location.chunks[chunk], timeout=self._timeout_s)
                return found
            except ray.exceptions.RayError as error:
                raise WeightsError(
                    f"version {weights.version}: chunk {chunk + 1} of {len(location.chunks)} "
                    f"did not come from the object store within {self._timeout_s:g} s "
                    f"({type(error).__name__})"
                ) from None

        return unpacked(weights, location.places, fetch)

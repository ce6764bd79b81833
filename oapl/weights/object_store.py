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
from oapl.weights.base import Manifest, Tensors, from_bytes, verified

CHUNK_BYTES = 128 * 2**20
ALIGNMENT = 64
"""Of a tensor within its chunk: torch refuses to view a float at an odd address."""
KEPT_VERSIONS = 2


@dataclass(frozen=True, slots=True)
class Location:
    """Where each tensor lies: (chunk, offset, bytes) in the order of the specs."""

    chunks: tuple[Any, ...]
    places: tuple[tuple[int, int, int], ...]


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
        manifest, packer = Manifest(version), _Packer(self._chunk_bytes)
        for name, tensor in tensors:
            packer.add(manifest.add(name, tensor))
        location = packer.finish()
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
        if len(location.places) != len(weights.specs):
            raise WeightsError(
                f"version {weights.version}: {len(location.places)} tensors were put, but "
                f"{len(weights.specs)} are announced"
            )
        held, buffer = -1, np.empty(0, dtype=np.uint8)
        for spec, (chunk, start, size) in zip(weights.specs, location.places, strict=True):
            if chunk != held:
                try:
                    held, buffer = chunk, ray.get(location.chunks[chunk], timeout=self._timeout_s)
                except ray.exceptions.RayError as error:
                    raise WeightsError(
                        f"version {weights.version}: chunk {chunk + 1} of {len(location.chunks)} "
                        f"did not come from the object store within {self._timeout_s:g} s "
                        f"({type(error).__name__})"
                    ) from None
            yield spec.name, from_bytes(buffer[start : start + size], spec)


class _Packer:
    """Copies tensors into a buffer and puts it whenever it is full; holds one chunk at a time."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._chunks: list[Any] = []
        self._places: list[tuple[int, int, int]] = []
        self._buffer = np.empty(0, dtype=np.uint8)
        self._used = 0

    def add(self, content: np.ndarray) -> None:
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if start + content.nbytes > self._buffer.nbytes:
            self._put()
            start = 0
            self._buffer = np.empty(max(self._chunk_bytes, content.nbytes), dtype=np.uint8)
        self._buffer[start : start + content.nbytes] = content
        self._places.append((len(self._chunks), start, content.nbytes))
        self._used = start + content.nbytes

    def finish(self) -> Location:
        self._put()
        return Location(tuple(self._chunks), tuple(self._places))

    def _put(self) -> None:
        import ray

        if self._used:
            self._chunks.append(ray.put(self._buffer[: self._used]))
        self._buffer, self._used = np.empty(0, dtype=np.uint8), 0

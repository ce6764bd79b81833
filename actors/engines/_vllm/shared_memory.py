"""Tensors for another process on this machine, in memory that belongs to no file name.

A vLLM worker is no Ray process, so it cannot fetch what a transport brings; sent inside a call the
tensors would be copied for seconds. So the engine's host writes them into an anonymous memory file
(`memfd`), which the worker opens by way of `/proc` and maps. It needs no room in /dev/shm (64 MiB
in many containers), and nothing is left behind however either process ends. Both must run on one
machine under one user. Publications travel in segments, so that a large one never exists twice.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oapl.records import TensorSpec
from oapl.weights.base import Tensors, from_bytes, spec_of, to_bytes

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT_BYTES = 128 * 2**20
ALIGNMENT = 64
"""Of a tensor within a segment: torch refuses to view a float at an odd address."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a publication in memory that `read` finds; gone when it is closed."""

    fd: int
    contents: tuple[tuple[TensorSpec, int, int], ...]
    """Per tensor what it is, where it starts and its bytes."""

    @property
    def address(self) -> dict[str, Any]:
        """Where it lies and what it holds, in plain types that any serialiser takes."""
        return {
            "path": f"/proc/{os.getpid()}/fd/{self.fd}",
            "contents": [[asdict(spec), *place] for spec, *place in self.contents],
        }

    def close(self) -> None:
        """Let go of it; what is mapped elsewhere stays there."""
        os.close(self.fd)

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(tensors: Tensors, limit_bytes: int = 0) -> Segment | None:
    """Take tensors until a segment is full.

    Args:
        tensors: Name and tensor, of any shape; what does not fit stays for the next segment.
        limit_bytes: Of a segment, 0 for `SEGMENT_BYTES`; a larger tensor makes one of its own.

    Returns:
        The segment, which the caller closes; None when no tensor was left.
    """
    taken, contents, end = [], [], 0
    limit_bytes = limit_bytes or SEGMENT_BYTES
    for name, tensor in tensors:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        content = to_bytes(tensor)
        taken.append((start, content))
        contents.append((spec_of(name, tensor), start, content.nbytes))
        end = start + content.nbytes
        if end >= limit_bytes:
            break
    if not taken:
        return None
    fd = os.memfd_create("oapl-weights")
    try:
        os.ftruncate(fd, max(end, 1))
        with mmap.mmap(fd, max(end, 1)) as memory:
            target = np.frombuffer(memory, dtype=np.uint8)
            for start, content in taken:
                target[start : start + content.nbytes] = content
            del target  # a mapping with a view of it cannot be closed
    except BaseException:
        os.close(fd)
        raise
    return Segment(fd, tuple(contents))


def read(address: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of a segment: read-only views of its memory, which live as long as they do.

    Args:
        address: A `Segment.address`.

    Returns:
        Name and tensor, of the shape it was written with: [V, H] of an embedding.
    """
    memory = np.memmap(address["path"], dtype=np.uint8, mode="r")
    for fields, start, num_bytes in address["contents"]:
        spec = TensorSpec(**{**fields, "shape": tuple(fields["shape"])})
        yield spec.name, from_bytes(memory[start : start + num_bytes], spec)

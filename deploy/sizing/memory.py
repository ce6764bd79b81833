"""Bytes by part, and what a process takes before it holds a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.sizing.hardware import GIB
from oapl.config import RunConfig

FP32, HALF = 4, 2
"""Bytes of a number."""
LIBRARIES = {
    "cpu": {"learner": 0.35, "engine": 0.53},
    "cuda": {"learner": 1.5, "engine": 1.5},
    "npu": {"learner": 2.0, "engine": 2.0},
}
"""GiB before the model: on a CPU as measured after the imports; elsewhere an allowance for context,
workspaces and collective buffers."""
HEAP = {"cpu": {"learner": 0.30, "engine": 0.29}}
"""GiB that the C library's heap and workspaces come to keep beside the counted parts, as measured
with models of 40 and 135 million parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one process takes.

    Attributes:
        parts: Bytes by part, on its device.
        host: Bytes that it keeps in its host's memory beside them.
    """

    parts: Mapping[str, int]
    host: int = 0

    @property
    def total(self) -> int:
        """Bytes on its device."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {gib(size)}" for name, size in self.parts.items() if size)
        host = f"; in the host's memory {gib(self.host)}" if self.host else ""
        return f"{gib(self.total)}: {parts}{host}"


def fixed(config: RunConfig, who: str) -> dict[str, int]:
    """Count what a process takes whatever the model.

    Args:
        config: The run, for its device.
        who: `learner` or `engine`.
    """
    device = kind(config)
    heap = HEAP.get(device, {}).get(who, 0.0)
    return {"libraries": int(LIBRARIES[device][who] * GIB), "heap": int(heap * GIB)}


def kind(config: RunConfig) -> str:
    """The device whose figures hold; a device of the user's own counts as a card."""
    return config.cluster.device if config.cluster.device in LIBRARIES else "cuda"


def engine_item(config: RunConfig) -> int:
    """Bytes of a number in an engine, and so in a publication."""
    return FP32 if config.model.dtype == "float32" else HALF


def gib(number: float) -> str:
    """Write a number of bytes in GiB, with two decimals."""
    return f"{number / GIB:.2f} GiB"

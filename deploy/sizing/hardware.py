"""The machine that a run is sized for: written down (`cuda:8x80GiB`), or what this one has."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from oapl.devices.base import DEVICES
from oapl.errors import InputError

GIB = 2**30
UNITS = {"GiB": GIB, "GB": 10**9, "MiB": 2**20}
WRITTEN = re.compile(r"([a-z]\w*):(?:(\d+)x)?(\d+(?:\.\d+)?)(GiB|GB|MiB)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Equal devices.

    Attributes:
        device: A file of oapl/devices.
        count: Devices over all machines; for `cpu` the machines themselves.
        bytes: Memory of one.
    """

    device: str
    count: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.count} x {self.bytes / GIB:.1f} GiB ({self.device})"


def parse(text: str) -> Hardware:
    """Read `cuda:8x80GiB`, `npu:64x64GiB`, `cpu:2x24GiB` (two machines); `8x` may be left out.

    Raises:
        InputError: It is written otherwise, names no device file, or has none of the devices.
    """
    found = WRITTEN.fullmatch(text.strip())
    if found is None or not int(found[2] or 1) or not float(found[3]):
        raise InputError(
            f"--for {text}: is not DEVICE:COUNTxMEMORY; write it like cuda:8x80GiB, npu:64x64GiB "
            "or cpu:2x24GiB (machines)"
        )
    DEVICES.load(found[1], "--for")
    size = int(float(found[3]) * UNITS[found[4]])
    return Hardware(device=found[1], count=int(found[2] or 1), bytes=size)


def this_machine() -> Hardware:
    """Describe this machine, or the container that this process is held to."""
    total, _ = main_memory()
    return Hardware(device="cpu", count=1, bytes=total)


def main_memory() -> tuple[int, int]:
    """Read how much memory the machine has, or the container where that is less.

    Returns:
        Bytes in all, and available now.
    """
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE))
    total, available = (int(fields[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and int(limit) < total:
        used = int(_read("/sys/fs/cgroup/memory.current") or 0)
        total, available = int(limit), min(available, int(limit) - used)
    return total, available


def cores() -> float:
    """Count the cores that this process may use: affinity and the container's quota."""
    usable: float = len(os.sched_getaffinity(0))
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        usable = min(usable, int(quota[0]) / int(quota[1]))
    return usable


def accelerators() -> dict[str, list[str]]:
    """List the cards that torch sees, by kind; an NPU's plugin loads itself with torch."""
    try:
        import torch
    except ImportError:
        return {}
    found: dict[str, list[str]] = {}
    for kind in ("npu", "cuda"):
        cards = getattr(torch, kind, None)
        if cards is not None and cards.is_available():
            found[kind] = [
                f"{cards.get_device_name(i)}, {cards.mem_get_info(i)[1] / GIB:.0f} GiB"
                for i in range(cards.device_count())
            ]
    return found


def _read(path: str) -> str:
    """The file's text; nothing where there is no such file."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""

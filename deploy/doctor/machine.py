"""Cores, memory, disks and open files."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.doctor.finding import Finding, gib, judged
from deploy.sizing.hardware import GIB, cores, main_memory

AREA = "machine"
LEAST_MEMORY, GOOD_MEMORY = 2 * GIB, 6 * GIB
"""Ray, one engine and one rank of the smallest model take 2 GiB; a model of 135M wants 6."""
OBJECT_STORE = GIB // 2
LEAST_DISK, GOOD_DISK = GIB, 10 * GIB
FULL_DISK = 0.95
"""Ray refuses to spill objects to a disk that is fuller."""
OPEN_FILES = 4096


def look() -> Iterator[Finding]:
    """Look at the machine, or at the container where that is less."""
    usable, load = cores(), os.getloadavg()[0]
    threads = os.environ.get("OMP_NUM_THREADS")
    text = f"{usable:g} of {os.cpu_count()}, load {load:.1f}"
    busy = load > usable + 1
    yield Finding(
        area=AREA,
        name="cores",
        found=text + (f", OMP_NUM_THREADS={threads}" if threads else ""),
        level="note" if usable < 2 or busy else "ok",
        remedy="a run wants two cores: engine and learner take turns on one"
        if usable < 2
        else "other processes are at work: timings and tokens/s will suffer"
        if busy
        else "",
    )
    total, available = main_memory()
    yield judged(
        Finding(area=AREA, name="memory", found=f"{gib(available)} free of {gib(total)}"),
        available,
        (LEAST_MEMORY, "end other processes, or take a machine with 8 GiB"),
        (GOOD_MEMORY, "enough for the quickstart's model only; end other processes"),
    )
    shm = _disk(Path("/dev/shm"))
    if shm is not None:
        yield judged(
            Finding(area=AREA, name="/dev/shm", found=f"{gib(shm.free)} free of {gib(shm.total)}"),
            shm.free,
            (0, ""),
            (
                OBJECT_STORE,
                "Ray's object store then lies on disk, slowly: `docker run --shm-size=2g`",
            ),
        )
    for name, path in (
        ("disk, here", Path.cwd()),
        ("disk, temporary", Path(tempfile.gettempdir())),
    ):
        disk = _disk(path)
        if disk is not None:
            yield _free_disk(name, path, disk)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    is_low = 0 <= limit < OPEN_FILES
    yield Finding(
        area=AREA,
        name="open files",
        found=f"at most {'any number' if limit < 0 else f'{limit:,}'}",
        level="note" if is_low else "ok",
        remedy="`ulimit -n 65536` before the run: Ray opens many sockets" if is_low else "",
    )


def _free_disk(name: str, path: Path, disk: Any) -> Finding:
    finding = judged(
        Finding(area=AREA, name=name, found=f"{gib(disk.free)} free of {gib(disk.total)}, {path}"),
        disk.free,
        (LEAST_DISK, f"make room under {path}, or choose another run.dir or TMPDIR"),
        (GOOD_DISK, f"checkpoints take four times the model in fp32: make room under {path}"),
    )
    if finding.level == "ok" and 1 - disk.free / disk.total > FULL_DISK:
        remedy = f"fuller than {FULL_DISK:.0%}: Ray will not spill objects there"
        return replace(finding, level="note", remedy=remedy)
    return finding


def _disk(path: Path) -> Any:
    return shutil.disk_usage(path) if path.exists() else None

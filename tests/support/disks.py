"""Small disks, which can be filled."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_system(place: Path, size_bytes: int) -> Iterator[None]:
    """Mount a file system of its own at a new folder while the block runs; needs root."""
    place.mkdir(parents=True)
    size = f"size={size_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)

"""SHA-256 of every file below a folder, kept beside them: a flipped byte would load silently."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

FILE = "digests.json"


def write(folder: Path) -> None:
    """Digest every file below `folder` into `digests.json`, and flush all of it to disk."""
    digests = {str(path.relative_to(folder)): _digest(path) for path in _files(folder)}
    (folder / FILE).write_text(json.dumps(digests, indent=1))
    for path in [*_files(folder), folder]:
        flush(path)


def problem(folder: Path, part: int = 0, parts: int = 1) -> str | None:
    """Compare the files with their digests.

    Args:
        folder: Where `write` was called.
        part, parts: Look at every `parts`-th file from `part` on, so that ranks share the work.

    Returns:
        What is wrong; None when all is well.
    """
    try:
        digests = json.loads((folder / FILE).read_text())
    except (OSError, ValueError) as error:
        return f"it is incomplete ({error})"
    for name in sorted(digests)[part::parts]:
        try:
            if _digest(folder / name) != digests[name]:
                return f"{name} is damaged"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def flush(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

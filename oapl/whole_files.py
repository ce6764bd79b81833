"""Files and folders that are whole or absent, however the process that writes them ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A free place beside `path`; what is written there takes the place of `path` at the end.

    A block that raises leaves `path` as it was and nothing beside it; a process that is killed may
    leave `.NAME.part`, which the next one removes. Folders above `path` are made. Not flushed to
    disk: after a crash of the machine a renamed file may be empty.

    Args:
        path: A file, or a folder; an old folder is moved to `.NAME.old` while the new one comes.

    Raises:
        FileNotFoundError: The block wrote nothing.
    """
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(part)
    _remove(old)
    try:
        yield part
        if path.is_dir():  # no folder can be renamed onto one that holds something
            path.rename(old)
        os.replace(part, path)
    except BaseException:
        _remove(part)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

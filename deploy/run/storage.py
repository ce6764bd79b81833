"""Whether what failed is that a run cannot write: then that is the error, whoever met it first.

A full disk is met by a rank, by Parquet, by the line of metrics or by all of them, each with words
of its own; their errors come from other processes as text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.checks.dating import EVALUATION, GENERATION, TRAINING
from oapl.errors import StorageError, in_one_line
from oapl.tracking.tracker import Tracker

FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
TRIAL_BYTES = 2**20
"""What is written to see whether anything can be: less is free on a full disk, now and then."""


@contextlib.contextmanager
def named(folder: Path) -> Iterator[None]:
    """Whatever goes wrong within this because `folder` cannot be written to is told as that.

    Raises:
        StorageError: It cannot.
    """
    try:
        yield
    except Exception as error:
        if found := cause(error, folder):
            raise found from error
        raise


def cause(error: BaseException, folder: Path) -> StorageError | None:
    """Find out whether an error comes of a folder that cannot be written to.

    Args:
        error: What somebody met: an `OSError`, or any error with the text of one.
        folder: The run's.

    Returns:
        The cause, with its remedy; None where something else is wrong.
    """
    if isinstance(error, StorageError):
        return None
    for met in _chain(error):
        if any(os.strerror(number) in str(met) for number in FULL):
            return _full(_place(met, folder))
        if _is_missing(met, folder):
            return gone(folder)
    return _tried(folder)


def told(error: Exception, folder: Path, tracker: Tracker) -> Exception:
    """Tell what ends a command as its last line.

    Args:
        error: What somebody met.
        folder: The run's.
        tracker: Tells, and is closed.

    Returns:
        What was told: `error`, or its cause where that is the folder.
    """
    failure = cause(error, folder) or error
    tracker.fail(f"failed: {type(failure).__name__}: {in_one_line(failure)}")
    return failure


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_missing(error: BaseException, folder: Path) -> bool:
    """Whether it is of a folder that was taken away and that another writer has made again since:
    without the run's own settings."""
    text = str(error)
    is_ours = os.strerror(errno.ENOENT) in text and str(folder) in text
    return is_ours and not any(
        (folder / name).is_file() for name in (TRAINING, EVALUATION, GENERATION)
    )


def _place(error: BaseException, folder: Path) -> Path:
    """Where it was met: a full `/dev/shm` is no full run folder."""
    name = getattr(error, "filename", None)
    return Path(os.fsdecode(name)).parent if name else folder


def _tried(folder: Path) -> StorageError | None:
    """Write as much as a run writes at the least."""
    if not folder.is_dir():
        return gone(folder)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"\0" * TRIAL_BYTES)
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in FULL:
            return _full(folder)
        if error.errno in UNWRITABLE:
            return StorageError(
                f"{folder} cannot be written to ({error.strerror}); make it writable again"
            )
    return None


def gone(folder: Path) -> StorageError:
    """That a folder was taken away, with its remedy.

    Args:
        folder: The run's.
    """
    return StorageError(
        f"the run folder {folder} is gone, with all that was in it until then: restore it"
    )


def _full(folder: Path) -> StorageError:
    return StorageError(f"no space left in {folder}; free some")

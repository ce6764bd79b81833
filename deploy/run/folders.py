"""A run's folder: made and locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.errors import InputError

BEAT_S = 5.0
PATIENCE_S = 30.0
"""An owner that has not renewed its lock for several beats is gone."""


def prepare(config: RunConfig) -> None:
    """Write `config.toml` into the run folder, which is locked and fit to resume from.

    Raises:
        InputError: See `learner.checkpoints.resuming.resume_from`.
    """
    resuming.resume_from(config)
    (config.folder / "config.toml").write_text(to_toml(config))


def prepare_evaluation(config: RunConfig) -> None:
    """Write `eval.toml`; a training run's folder keeps its `config.toml` as it is."""
    (config.folder / "eval.toml").write_text(to_toml(config))


@contextlib.contextmanager
def locked(
    folder: Path, *, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S
) -> Iterator[None]:
    """Make the folder and hold it for this process.

    Two locks, since machines that share a folder need not see each other's `flock`: that one, which
    goes with the process however it ends, and the owner's name in the file, whose time the owner
    renews. A name left behind by another machine counts as long as its time moves.

    Args:
        folder: The run's.
        beat_s: Between two renewals.
        patience_s: How long a name of another machine is watched before it is taken for gone.

    Raises:
        InputError: Another process holds it; nothing in it was changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        is_exclusive = _flock(file, folder)
        file.seek(0)
        owner = file.read().strip()
        is_ours = is_exclusive and owner.startswith(f"{socket.gethostname()} ")
        if owner and not is_ours and _is_renewed(folder / ".lock", owner, patience_s):
            raise InputError(_in_use(folder, owner))
        file.truncate(0)
        file.write(f"{socket.gethostname()} process {os.getpid()}\n")
        file.flush()
        done = threading.Event()
        renewing = threading.Thread(target=_renew, args=(file.name, done, beat_s), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()
            file.truncate(0)


def _flock(file: IO[str], folder: Path) -> bool:
    """Take the lock; False where the file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise InputError(_in_use(folder, file.read().strip())) from error
    except OSError:
        return False
    return True


def _is_renewed(path: Path, owner: str, patience_s: float) -> bool:
    """Whether the file's time moves; each look opens it, which asks the server anew."""
    print(f"{path.parent} was last used by {owner}; looking whether it still is", file=sys.stderr)

    def changed_at() -> int:
        with path.open() as file:
            return os.fstat(file.fileno()).st_mtime_ns

    first, deadline = changed_at(), time.monotonic() + patience_s
    while time.monotonic() < deadline:
        time.sleep(patience_s / 20)
        if changed_at() != first:
            return True
    return False


def _renew(path: str, done: threading.Event, beat_s: float) -> None:
    while not done.wait(beat_s):
        with contextlib.suppress(OSError):  # an unreachable server; the next beat comes
            os.utime(path)


def _in_use(folder: Path, owner: str) -> str:
    who = owner or "another process"
    return f"{who} is using {folder}; wait for it, or choose another run.name"

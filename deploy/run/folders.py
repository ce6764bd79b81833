"""A run's folder: made, locked, and found again where it was moved to."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from deploy.checks.dating import EVALUATION, GENERATION, TRAINING, as_resumed, dated
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.errors import InputError

LOCK = ".lock"
PARTS = ("checkpoints/step-*", "metrics.jsonl", LOCK)
"""What a run puts into its folder: a `config.toml` beside one of these is no mere recipe."""
BEAT_S = 5.0
PATIENCE_S = 30.0
"""An owner that has not renewed its lock for several beats is gone."""


def prepare(config: RunConfig) -> RunConfig:
    """Write `config.toml` into the run folder, which is locked and fit to resume from.

    Returns:
        The configuration as it is written: with the date of the run that it goes on with.

    Raises:
        InputError: See `learner.checkpoints.resuming.resume_from`.
    """
    config = as_resumed(config, resuming.resume_from(config))
    (config.folder / TRAINING).write_text(to_toml(config))
    return config


def prepare_evaluation(config: RunConfig) -> RunConfig:
    """Write `eval.toml`; a training run's folder keeps its `config.toml` as it is.

    Returns:
        The configuration as it is written: with the date of the run in this folder.
    """
    config = dated(config, config.folder / TRAINING, config.folder / EVALUATION)
    (config.folder / EVALUATION).write_text(to_toml(config))
    return config


def prepare_generation(config: RunConfig) -> RunConfig:
    """Write `generate.toml`; a training run's folder keeps its `config.toml` as it is.

    Returns:
        The configuration as it is written: with the date of the first groups.
    """
    config = dated(config, config.folder / GENERATION)
    (config.folder / GENERATION).write_text(to_toml(config))
    return config


def moved_here(config: RunConfig, recipe: Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration for the run folder that its own recipe lies in now.

    Args:
        config: Read from `recipe`.
        recipe: Perhaps the `config.toml` of a run folder that was moved or copied.
        overrides: As the user gave them; `run.dir` or `run.name` choose another folder.
    """
    folder = recipe.expanduser().absolute().parent
    is_of_a_run = recipe.name in (TRAINING, EVALUATION, GENERATION) and any(
        next(folder.glob(part), None) for part in PARTS
    )
    chosen = [override.partition("=")[0].strip() for override in overrides]
    is_chosen = any(key in ("run", "run.dir", "run.name") for key in chosen)
    if not is_of_a_run or is_chosen or folder.resolve() == config.folder.resolve():
        return config
    print(f"{folder} was {config.folder}; the run is the one that lies here", file=sys.stderr)
    run = dataclasses.replace(config.run, dir=str(folder.parent), name=folder.name)
    return dataclasses.replace(config, run=run)


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
    with (folder / LOCK).open("a+") as file:
        is_exclusive = _flock(file, folder)
        file.seek(0)
        owner = file.read().strip()
        is_ours = is_exclusive and owner.startswith(f"{socket.gethostname()} ")
        if owner and not is_ours and _is_renewed(folder / LOCK, owner, patience_s):
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
            renewing.join(beat_s)  # a server that is out of reach may hold it: it is a daemon
            file.truncate(0)


def is_there(folder: Path) -> bool:
    """Whether a folder that is `locked` is still the one that it was: its lock goes with it, and
    whoever makes the folder again, as each writer may, makes none.

    Args:
        folder: The run's.
    """
    try:
        (folder / LOCK).stat()
    except FileNotFoundError:
        return False
    except OSError:  # an unreachable server: nobody knows
        return True
    return True


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

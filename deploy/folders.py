"""A run's folder: made, locked, and searched for a checkpoint to go on from."""

from __future__ import annotations

import contextlib
import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path

from learner import digests, snapshots
from oapl.cli import to_toml
from oapl.config import RunConfig
from oapl.errors import InputError


def prepare(config: RunConfig) -> None:
    """Make the run folder with its `config.toml`, fit to resume from.

    Raises:
        InputError: The folder holds a checkpoint and `checkpoint.resume` is `never`, or
            `checkpoint.resume` names no checkpoint.
    """
    resume_from(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "config.toml").write_text(to_toml(config))


def prepare_evaluation(config: RunConfig) -> None:
    """Make the folder, which may be a training run's: its `config.toml` stays what it is."""
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "eval.toml").write_text(to_toml(config))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is using {folder}; wait for it, or choose another run.name"
            ) from error
        yield


def resume_from(config: RunConfig) -> Path | None:
    """The checkpoint that `checkpoint.resume` means; None to start afresh."""
    resume, folder = config.checkpoint.resume, config.folder / "checkpoints"
    found = snapshots.latest(folder)
    if resume == "auto":
        return found
    if resume == "never":
        if found is not None:
            raise InputError(
                f'checkpoint.resume = "never", but {found} exists; choose another run.name, '
                "remove the run folder, or let it resume with auto"
            )
        return None
    path = Path(resume).expanduser().absolute()
    if not (path / digests.FILE).is_file():
        raise InputError(
            f"checkpoint.resume = {resume!r} is no checkpoint; name a folder checkpoints/step-N "
            "of a run, or auto, or never"
        )
    return path


def step_of(checkpoint: Path) -> int:
    """Learner steps made before this checkpoint."""
    match = snapshots.NAME.fullmatch(checkpoint.name)
    if match is None:
        raise InputError(f"{checkpoint} is not called step-N; its step cannot be told")
    return int(match[1])


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

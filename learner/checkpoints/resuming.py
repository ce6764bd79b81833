"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path

from learner.checkpoints import contents, digests, snapshots
from oapl.config import RunConfig
from oapl.errors import InputError


def resume_from(config: RunConfig) -> Path | None:
    """Find the checkpoint that `checkpoint.resume` means; None to start afresh.

    Raises:
        InputError: It names no checkpoint, or is `never` where there is one.
        CheckpointError: It is of another format than this version of oapl reads.
    """
    found = _asked_for(config)
    if found is not None:
        contents.read_state(found)
    return found


def _asked_for(config: RunConfig) -> Path | None:
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
    """Read from its name how many learner steps were made before a checkpoint.

    Raises:
        InputError: It is not called step-N.
    """
    match = snapshots.NAME.fullmatch(checkpoint.name)
    if match is None:
        raise InputError(f"{checkpoint} is not called step-N; its step cannot be told")
    return int(match[1])

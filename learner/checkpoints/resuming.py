"""Which checkpoint a run goes on from, and whether it can: judged before anything is started."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

from learner.checkpoints import contents, digests, origin, snapshots
from oapl.config import RunConfig
from oapl.config.objective import samples
from oapl.errors import CheckpointError, InputError
from oapl.objectives.base import build
from oapl.records import State

SHAPE = Path("trainer") / "state.json"
"""Written by `shards`: the ranks' own part."""
CHEAP_BYTES = 64 * 2**20
"""Of replay's part: read in less than a second."""


def resume_from(config: RunConfig) -> Path | None:
    """Find the checkpoint that `checkpoint.resume` means; None to start afresh.

    Raises:
        InputError: It names no checkpoint, is `never` where there is one, or the checkpoint is of
            another model, number of ranks, stage or precision, or one of the two has a critic.
        CheckpointError: It is of another format than this version of oapl reads, or damaged.
    """
    found = asked_for(config)
    if found is None:
        return None
    check(found, config)
    if name := stage_of(found):
        raise InputError(
            f"{found} is of stage {name} of a run of stages, and this run has none; go on in that "
            "run, or begin from its model under another run.name"
        )
    return found


def check(checkpoint: Path, config: RunConfig) -> None:
    """Refuse a checkpoint that a run, or a stage of one, cannot go on from.

    Args:
        checkpoint: Its folder.
        config: The run's, or the stage's.

    Raises:
        InputError: It is of another model or precision, holds groups of another size, or one of the
            two has a critic; or DeepSpeed wrote it, with another number of ranks, or stage.
        CheckpointError: It is of another format than this version of oapl reads, or damaged.
    """
    try:
        _check_groups(checkpoint, contents.read_state(checkpoint), config)
        _check_shape(checkpoint, config)
        origin.check(checkpoint, config)
    except InputError:
        raise
    except (CheckpointError, OSError, ValueError, TypeError, LookupError):
        verify(checkpoint)  # damage is told with its remedy
        raise


def stage_of(checkpoint: Path) -> str:
    """Read which stage of its run a checkpoint is of; empty where that run has none.

    Raises:
        CheckpointError: It is of another format than this version of oapl reads, or incomplete.
    """
    found = contents.read_state(checkpoint).get(contents.STAGE, {})
    return str(found.get(contents.STAGE_NAME, ""))


def cursor_of(checkpoint: Path) -> State | None:
    """Read how far a checkpoint's run was in its data, where that is cheap.

    Returns:
        State of a `oapl.replay.order.DrawOrder`; None where it cannot be told here: replay's part
        is large, or damaged, which others find.
    """
    file = checkpoint / contents.REPLAY
    try:
        if file.stat().st_size > CHEAP_BYTES:
            return None
        state = contents.read_pickle(file)
        cursor: State = state.get("source", state)
        return cursor if "data" in cursor else None
    except (OSError, CheckpointError, LookupError, TypeError, AttributeError):
        return None


def verify(checkpoint: Path) -> None:
    """Compare every file of a checkpoint with its digest, which may take minutes.

    Raises:
        CheckpointError: One is missing or differs; names it, and the checkpoint to use instead.
    """
    if problem := digests.problem(checkpoint):
        raise CheckpointError(f"checkpoint {checkpoint}: {problem}; {_remedy(checkpoint)}")


def _remedy(checkpoint: Path) -> str:
    older = snapshots.older(checkpoint)
    good = next((path for path in older if digests.problem(path) is None), None)
    if good is None:
        return "no older one is whole; begin afresh under another run.name"
    return f"go on from the older one by checkpoint.resume={good}"


def _check_groups(checkpoint: Path, state: State, config: RunConfig) -> None:
    """Groups of two sizes make no whole batch."""
    size, held = config.rollout.group_size, state.get(contents.GROUP_SIZES, [])
    if samples(config) and any(one != size for one in held):
        raise InputError(
            f"rollout.group_size = {size}, but {checkpoint} holds groups of "
            f"{', '.join(map(str, held))} that are still to be trained on; set "
            f"rollout.group_size={held[0]}, or change it after a checkpoint at a synchronisation "
            "without a lead, a surplus or history, which holds none"
        )


def _check_shape(checkpoint: Path, config: RunConfig) -> None:
    """What the ranks would refuse, a minute later."""
    if not (checkpoint / SHAPE).is_file():
        return
    shape = json.loads((checkpoint / SHAPE).read_text())["shape"]
    had = shape.pop(contents.CRITIC, False)
    has = "values" in build(config.objective).declares.needs
    if had != has:
        raise InputError(
            f"objective.name = {config.objective['name']!r}: asks for {'a' if has else 'no'} "
            f"critic, but {checkpoint} was saved {'with' if had else 'without'} one; set the "
            "objective back, or begin afresh under another run.name"
        )
    here = {setting: reduce(getattr, setting.split("."), config) for setting in shape}
    ranks = (checkpoint / SHAPE).parent
    for setting, saved in contents.unfit(ranks, shape, here).items():
        raise InputError(
            f"{setting} = {here[setting]!r}, but {checkpoint} was saved with {saved!r}, and its "
            f"parts fit no other; {_way_out(ranks, setting, saved)}, or begin afresh under another "
            "run.name"
        )


def _way_out(ranks: Path, setting: str, saved: Any) -> str:
    back = f"set {setting}={saved}"
    if contents.is_by_deepspeed(ranks) and setting in contents.LAYOUT:
        return f"{back} until the run has saved once more, which then fits any"
    return back


def asked_for(config: RunConfig) -> Path | None:
    """Find what `checkpoint.resume` means; None to start afresh. Nothing of it is looked at.

    Raises:
        InputError: It names no checkpoint, or is `never` where there is one.
    """
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

"""A run's checkpoints on disk: `checkpoints/step-N/`, written aside, then renamed.

Invariants: a folder called `step-N` is complete (a save that was killed leaves `.step-N.part`);
every file's SHA-256 stands in `digests.json`, itself the last file written; the last good one is
removed only after a newer one is in place.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from learner.checkpoints import digests

NAME = re.compile(r"step-(\d+)")


def begin(folder: Path, step: int) -> Path:
    """Make an empty place aside in which to write checkpoint `step`; what killed saves left behind,
    on a disk that may be full of it, is removed.

    What fails in between stays until `prune`, unlike in `oapl.whole_files`: when one rank has
    failed, another may still be writing there.

    Args:
        folder: The run's `checkpoints/`.
        step: Learner steps made.
    """
    _remove_parts(folder)
    part = folder / f".step-{step}.part"
    part.mkdir(parents=True)
    return part


def commit(part: Path, step: int) -> Path:
    """Digest, flush to disk and rename what was written at `begin`'s place.

    Args:
        part: From `begin`.
        step: As it was given there.

    Returns:
        The checkpoint, `step-N`.
    """
    digests.write(part)
    final = part.parent / f"step-{step}"
    before = part.with_name(f".step-{step}.before.part")
    if final.exists():  # a run that came back to the same step
        final.rename(before)
    part.rename(final)
    digests.flush(final.parent)
    if before.exists():
        shutil.rmtree(before)
    return final


def latest(folder: Path) -> Path | None:
    """Find the newest complete checkpoint in a run's `checkpoints/`; None where there is none."""
    found = _by_step(folder)
    return found[max(found)] if found else None


def older(checkpoint: Path) -> list[Path]:
    """List the complete checkpoints of fewer steps beside this one, the newest first."""
    found, match = _by_step(checkpoint.parent), NAME.fullmatch(checkpoint.name)
    own = int(match[1]) if match else -1
    return [found[step] for step in sorted(found, reverse=True) if step < own]


def set_aside(folder: Path, step: int) -> None:
    """Rename later checkpoints to `later-N`: a run goes on from an earlier one, and they would be
    taken for its newest.

    Args:
        folder: The run's `checkpoints/`.
        step: Of the checkpoint that the run goes on from.
    """
    for path in _children(folder):
        if (m := NAME.fullmatch(path.name)) and int(m[1]) > step:
            aside = folder / f"later-{m[1]}"
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def prune(folder: Path, keep: int, spared: Collection[int] = (), every_hours: float = 0.0) -> None:
    """Remove all but the newest checkpoints, and what killed saves left behind.

    Args:
        folder: The run's `checkpoints/`.
        keep: How many stay; at least 1.
        spared: Steps of others that stay.
        every_hours: So does one for every so many hours; 0: none of those.
    """
    found = _by_step(folder)
    times = {step: (path / digests.FILE).stat().st_mtime for step, path in found.items()}
    stay = {*spared, *(milestones(times, every_hours) if every_hours else ())}
    for step in sorted(found)[:-keep]:
        if step not in stay:
            shutil.rmtree(found[step])
    _remove_parts(folder)


def milestones(times: Mapping[int, float], every_hours: float) -> set[int]:
    """Choose the first checkpoint, and then each that came so many hours after the last choice.

    What is chosen stays chosen when others between are gone.

    Args:
        times: When each was written, in seconds, by step.
        every_hours: Above 0.
    """
    chosen: list[int] = []
    for step in sorted(times):
        if not chosen or times[step] - times[chosen[-1]] >= 3600 * every_hours:
            chosen.append(step)
    return set(chosen)


def _remove_parts(folder: Path) -> None:
    for path in _children(folder):
        if path.name.startswith(".step-") and path.name.endswith(".part"):
            shutil.rmtree(path)


def _by_step(folder: Path) -> dict[int, Path]:
    return {int(m[1]): path for path in _children(folder) if (m := NAME.fullmatch(path.name))}


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []

"""The trainer ranks' part of a checkpoint: weights and optimizers, random states, step.

Invariants: every file's SHA-256 is compared on some rank before any rank loads anything, and all
ranks raise together (a rank alone in DeepSpeed's loading would wait for the others for ever; a
flipped byte would load without a word); a checkpoint of another number of ranks, ZeRO stage or
precision is refused; the folder is the caller's, who renames it once it is whole.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learner.checkpoints import digests
from learner.checkpoints.contents import CRITIC
from learner.models.frozen import FrozenPolicies
from oapl.errors import CheckpointError, first_line

POLICY = "deepspeed"
"""Tag of the policy's engine, as `CRITIC` is of the critic's: their folders in the checkpoint."""
SOURCES = {POLICY: ("model", "model.path"), CRITIC: ("critic", "critic.path")}
"""What each is called, and the setting that names it."""
STATE = "state.json"


def save(
    engines: Mapping[str, Any],
    path: Path,
    state: Mapping[str, Any],
    shape: Mapping[str, Any],
    frozen: FrozenPolicies,
) -> None:
    """Write the ranks' state into the folder `path`. Called by all ranks.

    Args:
        engines: DeepSpeed's, by tag.
        path: Folder, made here if need be.
        state: The trainer's own numbers, the same on all ranks.
        shape: What a run must have in common with the checkpoint to load it.
        frozen: Copies of the policy; where each rank has all the weights, rank 0 writes them.
    """
    rank = torch.distributed.get_rank()
    path.mkdir(parents=True, exist_ok=True)
    torch.distributed.barrier()
    for tag, inner in engines.items():
        inner.save_checkpoint(str(path), tag=tag, save_latest=False)
    torch.save(_random_state(), path / _random_file(rank))
    if frozen.names and (rank == 0 or engines[POLICY].zero_optimization_stage() == 3):
        torch.save(frozen.state(), path / _frozen_file(rank))
    torch.distributed.barrier()
    if rank == 0:
        (path / STATE).write_text(json.dumps({"state": dict(state), "shape": dict(shape)}))
        digests.write(path)
    torch.distributed.barrier()


def load(
    engines: Mapping[str, Any],
    path: Path,
    shape: Mapping[str, Any],
    frozen: FrozenPolicies,
    *,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Verify, then load. Called by all ranks.

    Args:
        engines: DeepSpeed's, by tag.
        path: Where `save` wrote.
        shape: As `save` takes it.
        frozen: Takes over the copies.
        only: Of the copies take over these, and keep the others that there are; None: as they were.

    Returns:
        The trainer's own numbers.

    Raises:
        CheckpointError: A file is missing or damaged, or the run has another shape.
    """
    problem = _problem(path, shape)
    found: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, problem)
    if any(found):
        raise CheckpointError(f"checkpoint {path}: {next(p for p in found if p)}")
    for tag, inner in engines.items():
        _load(tag, inner, path)
    rank = torch.distributed.get_rank()
    _restore_random_state(torch.load(path / _random_file(rank), weights_only=False))
    copies = path / _frozen_file(rank if engines[POLICY].zero_optimization_stage() == 3 else 0)
    if copies.exists():
        saved = torch.load(copies, map_location="cpu")
        if only is None:
            frozen.restore(saved)
        else:
            frozen.add({name: copy for name, copy in saved.items() if name in only})
    state: dict[str, Any] = json.loads((path / STATE).read_text())["state"]
    return state


def _load(tag: str, inner: Any, path: Path) -> None:
    """Weights and optimizer of one engine, but for the optimizer's settings."""
    ours = _options(inner)
    try:
        loaded, _ = inner.load_checkpoint(str(path), tag=tag)
    except RuntimeError as error:  # torch: other tensors than the model's
        what, setting = SOURCES[tag]
        raise CheckpointError(
            f"checkpoint {path}: the {what} is not the one that was saved ({first_line(error)}); "
            f"set {setting} back, or begin afresh under another run.name"
        ) from error
    if loaded is None:
        raise CheckpointError(f"checkpoint {path}: DeepSpeed found no {tag} in it")
    for group, options in zip(inner.optimizer.param_groups, ours, strict=True):
        group.update(options)


def _options(inner: Any) -> list[dict[str, Any]]:
    """The optimizer's own settings, which may be others than those of the run that saved."""
    groups = inner.optimizer.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def _problem(path: Path, shape: Mapping[str, Any]) -> str | None:
    """What is wrong with this rank's share of the files, or with the shape."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    damage = digests.problem(path, rank, world_size)
    if damage:
        return damage
    try:
        saved = json.loads((path / STATE).read_text())["shape"]
    except (OSError, ValueError, KeyError) as error:
        return f"it is incomplete ({error})"
    if saved != dict(shape):
        return f"it was saved with {saved}, this run has {dict(shape)}; they must be equal"
    return None


def _frozen_file(rank: int) -> str:
    return f"frozen-{rank}.pt"


def _random_file(rank: int) -> str:
    return f"random-{rank}.pt"


def _random_state() -> dict[str, Any]:
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    if torch.accelerator.is_available():
        state["device"] = torch.get_device_module().get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "device" in state:
        torch.get_device_module().set_rng_state(state["device"])

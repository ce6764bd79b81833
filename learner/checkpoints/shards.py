"""The trainer ranks' part of a checkpoint: weights and optimizers, random states, step.

Invariants: every file's SHA-256 is compared on some rank before any rank loads anything, and all
ranks raise together (a rank alone in DeepSpeed's loading would wait for the others for ever; a
flipped byte would load without a word); weights, moments and frozen policies lie there by name, so
that any number of ranks at any ZeRO stage goes on; a checkpoint of another precision is refused,
and one of format 4, which DeepSpeed wrote, goes on with its own number of ranks and stage alone;
the folder is the caller's, who renames it once it is whole.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learner.checkpoints import by_name, contents, digests, engine_state, reading
from learner.checkpoints.contents import CRITIC
from learner.models.frozen import FrozenPolicies
from learner.zero_engine import ZeroEngine
from oapl.errors import CheckpointError, first_line

POLICY = "policy"
"""Of the policy's engine, as `CRITIC` is of the critic's: their folders in the checkpoint."""
SOURCES = {POLICY: ("model", "model.path"), CRITIC: ("critic", "critic.path")}
"""What each is called, and the setting that names it."""
STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one rank is to write.

    Attributes:
        rank: Whose.
        tensors: By tag of the engine, then as `by_name.write` takes them.
        steps: The optimizers' counts, by tag.
        random: States of generators.
        common: The trainer's own numbers and the shape, which rank 0 writes.
    """

    rank: int
    tensors: Mapping[str, engine_state.Kept]
    steps: Mapping[str, Mapping[str, float]]
    random: Mapping[str, Any]
    common: Mapping[str, Any]

    def copied(self) -> Snapshot:
        """The same in host memory of its own, which the next step leaves as it is."""
        tensors = {tag: engine_state.copied(kept) for tag, kept in self.tensors.items()}
        return replace(self, tensors=tensors)

    def write(self, path: Path) -> None:
        """Write it into the folder `path`, made here if need be; from any thread."""
        path.mkdir(parents=True, exist_ok=True)
        for tag, tensors in self.tensors.items():
            by_name.write(path / tag, self.rank, tensors, self.steps[tag])
        torch.save(self.random, path / _random_file(self.rank))
        if self.rank == 0:
            (path / STATE).write_text(json.dumps(self.common))


def take(
    engines: Mapping[str, ZeroEngine],
    state: Mapping[str, Any],
    shape: Mapping[str, Any],
    frozen: FrozenPolicies,
) -> Snapshot:
    """Look at this rank's state; what it gives is written, or copied, before the next step.

    Args:
        engines: By tag.
        state: The trainer's own numbers, the same on all ranks.
        shape: What a run must have in common with the checkpoint to load it.
        frozen: Copies of the policy; where each rank has all the weights, rank 0 keeps them.
    """
    return Snapshot(
        rank=torch.distributed.get_rank(),
        tensors={
            tag: engine_state.kept(one.inner, one.adam, frozen if tag == POLICY else None)
            for tag, one in engines.items()
        },
        steps={tag: engine_state.steps_of(one.inner, one.adam) for tag, one in engines.items()},
        random=_random_state(),
        common={"state": dict(state), "shape": dict(shape)},
    )


def save(snapshot: Snapshot, path: Path) -> None:
    """Write the ranks' state into the folder `path`, whole with its digests. Called by all ranks.

    Args:
        snapshot: This rank's.
        path: Folder, made here if need be.
    """
    snapshot.write(path)
    torch.distributed.barrier()
    if snapshot.rank == 0:
        digests.write(path)
    torch.distributed.barrier()


def load(
    engines: Mapping[str, ZeroEngine],
    path: Path,
    shape: Mapping[str, Any],
    frozen: FrozenPolicies,
    *,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Verify, then load. Called by all ranks.

    Args:
        engines: By tag.
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
    read = _read_by_deepspeed if contents.is_by_deepspeed(path) else _read_by_name
    saved = read(engines, path)
    if only is None:
        frozen.restore(saved)
    else:
        frozen.add({name: copy for name, copy in saved.items() if name in only})
    random_file = path / _random_file(torch.distributed.get_rank())
    if random_file.exists():  # else there were fewer ranks
        _restore_random_state(reading.load(random_file))
    state: dict[str, Any] = json.loads((path / STATE).read_text())["state"]
    return state


def _read_by_name(engines: Mapping[str, ZeroEngine], path: Path) -> dict[str, list[Any]]:
    """Weights and optimizers into the engines; returns the policy's copies."""
    copies: dict[str, list[Any]] = {}
    for tag, engine in engines.items():
        pieces = by_name.Pieces(path / tag, SOURCES[tag][1])
        engine_state.put_back(engine.inner, engine.adam, pieces)
        if tag == POLICY:
            copies = engine_state.sets(engine.inner.module, pieces)
    return copies


def _read_by_deepspeed(engines: Mapping[str, ZeroEngine], path: Path) -> dict[str, list[Any]]:
    for tag, engine in engines.items():
        _load_by_deepspeed(tag, engine.inner, path)
    is_sharded = engines[POLICY].inner.zero_optimization_stage() == 3
    file = path / _frozen_file(torch.distributed.get_rank() if is_sharded else 0)
    return reading.load(file) if file.exists() else {}


def _load_by_deepspeed(tag: str, inner: Any, path: Path) -> None:
    """Weights and optimizer of one engine, but for the optimizer's settings."""
    ours = _options(inner)
    try:
        with reading.without_code(path):
            loaded, _ = inner.load_checkpoint(
                str(path), tag=contents.BY_DEEPSPEED if tag == POLICY else tag
            )
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
        differing = contents.unfit(path, saved, shape)
    except (OSError, ValueError, KeyError) as error:
        return f"it is incomplete ({error})"
    if differing:
        here = {name: shape[name] for name in differing}
        return f"it was saved with {differing}, this run has {here}; they must be equal"
    return None


def _frozen_file(rank: int) -> str:
    return f"frozen-{rank}.pt"


def _random_file(rank: int) -> str:
    return f"random-{rank}.pt"


def _random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
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

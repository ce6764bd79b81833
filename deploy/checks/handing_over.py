"""What the stages of a run make for one another: folders, models, sets, and what of a train stage
the next one takes over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from deploy.checks.evaluation import without_training
from deploy.checks.generation import FOLDER, generating
from deploy.checks.inherited import without_ignored
from deploy.checks.plugins import source_of
from oapl.config import RunConfig
from oapl.config.stages import PARTS, Part, Stage
from oapl.errors import InputError
from oapl.objectives.base import build

STAGES = "stages"
"""Folder of a run that holds a folder of each stage."""


def folder_of(stage: Stage) -> Path:
    """The folder of a stage in the run folder."""
    return stage.config.folder / STAGES / stage.name


def groups_of(stage: Stage) -> Path:
    """Where a stage that makes groups puts them."""
    return folder_of(stage) / FOLDER


def before(stages: Sequence[Stage], stage: Stage, *kinds: str) -> Stage | None:
    """The last stage before another that is of one of these kinds; None where there is none.

    Args:
        stages: Of the run.
        stage: One of them.
        kinds: To look for.
    """
    found = [other for other in stages[: stage.number - 1] if other.kind in kinds]
    return found[-1] if found else None


def taken_over(stages: Sequence[Stage], stage: Stage) -> frozenset[Part]:
    """What a train stage takes over from the one before it beside the weights.

    Nothing where it names a model of its own, or where that stage leaves its best one. Its moments
    and its reference are of an objective of the same name, and its place in the data where that has
    no end.

    Args:
        stages: Of the run.
        stage: One of them.
    """
    last = before(stages, stage, "train")
    if last is None or names_model(stage) or last.own.leaves == "best":
        return frozenset()
    anew = {part for part in PARTS if part in stage.own.reset}
    if stage.config.objective["name"] != last.config.objective["name"]:
        anew |= {"optimizer", "reference"}
    if "reference" not in needs_of(stage.config):
        anew.add("reference")
    source = source_of(stage.config)
    if stage.config.data.epochs or source == "stored" or source != source_of(last.config):
        anew.add("data")
    return frozenset(part for part in PARTS if part not in anew)


def names_model(stage: Stage) -> bool:
    """Whether a stage begins from a model that it names, and not from that of the stage before."""
    return "model.path" in stage.says


def ready(
    stages: Sequence[Stage], stage: Stage, model: str = "", groups: Path | None = None
) -> RunConfig:
    """A stage's settings as its program takes them.

    Args:
        stages: Of the run.
        stage: One of them.
        model: That the stage before has left; empty: the stage's own.
        groups: The set that a stage before has made; None: where it will lie.
    """
    config = stage.config
    if model and not names_model(stage):
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, path=model))
    if stage.kind in ("generate", "evaluate"):
        place = folder_of(stage)
        run = dataclasses.replace(config.run, dir=str(place.parent), name=place.name)
        config = dataclasses.replace(config, run=run)
    if stage.kind == "generate":
        return generating(config)
    if stage.kind == "evaluate":
        return without_training(config)
    if stage.kind == "train":
        config = without_ignored(config, stage.says)
    maker = made_by(stages, stage)
    if maker is not None:
        path = (str(groups or groups_of(maker)),)
        config = dataclasses.replace(config, replay=dataclasses.replace(config.replay, path=path))
    return config


def made_by(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """The stage whose groups a train stage trains on; None where it names a set, or needs none."""
    replay = stage.config.replay
    if stage.kind != "train" or replay.source != "stored" or replay.path:
        return None
    return before(stages, stage, "generate", "filter")


def awaited(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """The stage without whose result another cannot be looked at: the groups that it trains on, or
    the policy that is to answer; None where there is none.

    Args:
        stages: Of the run.
        stage: One of them.
    """
    if stage.kind == "generate" and not names_model(stage):
        return before(stages, stage, "train")
    return made_by(stages, stage)


def in_words(stage: Stage) -> str:
    """A stage as errors call it."""
    return f"stage {stage.number} ({stage.name})"


def named(stage: Stage, error: InputError) -> InputError:
    """An error with the stage in front of each line."""
    return InputError("\n".join(f"{in_words(stage)}: {line}" for line in str(error).splitlines()))


def needs_of(config: RunConfig) -> frozenset[str]:
    """What the objective of a stage needs; nothing where it cannot be built."""
    try:
        return build(config.objective).declares.needs
    except InputError:  # told by the rules about the objective
        return frozenset()

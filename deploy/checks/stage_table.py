"""The table of stages: what each does, how it ends, what it takes over, what is other in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.checks.handing_over import before, made_by, names_model, needs_of, taken_over
from oapl.config.messages import shown
from oapl.config.stages import PARTS, Stage, changes

SECTIONS = {
    "generate": ("model", "data", "rollout", "reward"),
    "evaluate": ("model", "eval", "rollout", "reward"),
    "filter": (),
}
"""What a stage of a kind has of the settings, where that is not all of them."""


def table(stages: Sequence[Stage]) -> list[str]:
    """Tell each stage: what it does, how it ends, what it takes over, and in which settings it
    differs from the stage before of its kind."""
    lines: list[str] = []
    for stage in stages:
        ends = _ends(stage)
        lines.append(f"stage {stage.number}/{len(stages)} {stage.name}: {stage.kind}{ends}")
        lines += [f"    {line}" for line in about(stages, stage)]
    return lines


def _ends(stage: Stage) -> str:
    if stage.kind != "train":
        return ""
    patience = stage.own.patience
    early = f", or {patience} evaluations in a row no better than its best" if patience else ""
    return f", {stage.config.run.max_steps:,} steps{early}, or `oapl next`"


def about(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    """What a stage begins with, line by line.

    Args:
        stages: Of the run.
        stage: One of them.
    """
    last = before(stages, stage, "train")
    if stage.kind == "train" and (last is None or names_model(stage)):
        yield f"begins from {stage.config.model.path}"
    elif stage.kind == "train" and last is not None:
        kept = [part for part in PARTS if part in taken_over(stages, stage)]
        has_reference = "reference" in needs_of(stage.config)
        has = [part for part in PARTS if part != "reference" or has_reference]
        anew = [part for part in has if part not in kept]
        taken = f"takes over {', '.join(['weights', *kept])} from {last.name}"
        yield taken + (f"; anew: {', '.join(anew)}" if anew else "")
    maker = made_by(stages, stage)
    if maker is not None:
        yield f"trains on the groups of {maker.name}"
    same = before(stages, stage, stage.kind) or before(stages, stage, "train")
    if same is not None:
        for key, (old, new) in changes(same.config, stage.config).items():
            if key.split(".")[0] in SECTIONS.get(stage.kind, key):
                yield f"{key} = {new} (was {old})"
    for number, filter in enumerate(stage.filters if stage.kind == "filter" else ()):
        yield f"filter {number + 1}: {shown(filter)}"

"""Stages: the rules about them, and a look at all of them before the first one starts.

What an earlier stage will have made, a model or
a set of groups, is not there yet: a model is looked at in the recipe's own, whose tokenizer and
shape it has, a set when its stage begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy.checks.evaluation import check_evaluation
from deploy.checks.handing_over import (
    awaited,
    before,
    in_words,
    made_by,
    named,
    needs_of,
    ready,
    taken_over,
)
from deploy.checks.preflight import Begin, PreflightReport, preflight
from deploy.checks.settings import NAME, check
from deploy.checks.stage_table import table
from deploy.filtering.choosing import from_tables
from deploy.sizing.hardware import Hardware
from oapl.config import RunConfig
from oapl.config.messages import shown
from oapl.config.objective import Purpose
from oapl.config.stages import Stage, StageSection, changes, stages_of
from oapl.config.toml import to_toml
from oapl.errors import InputError

OF_THE_RUN = ("run.name", "run.dir", "run.max_hours", "restarts", "checkpoint.resume")
"""Settings that all stages have in common."""
OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "train": ("reset", "patience", "leaves"),
    "filter": ("filters", "threshold"),
}
"""A stage's own keys that belong to one kind alone."""
SHAPE = ("learner.precision",)
"""What two stages have in common when one takes over the ranks' parts of the other."""
PURPOSES: Mapping[str, Purpose] = {
    "train": "train",
    "generate": "generate",
    "evaluate": "evaluate",
}


def check_all(config: RunConfig) -> None:
    """Refuse a run that cannot work by its settings alone, with stages or without.

    Raises:
        InputError: One line per problem.
    """
    if config.is_staged:
        check_stages(stages_of(config))
    else:
        check(config)


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse stages that cannot work, by their settings alone.

    Raises:
        InputError: One line per problem, the stage in front.
    """
    problems = list(_names(stages))
    for stage in stages:
        own = [line for rule in RULES for line in rule(stages, stage)]
        problems += [f"{in_words(stage)}: {line}" for line in own]
        if own:
            continue
        try:
            _check(stages, stage)
        except InputError as error:
            problems.append(str(named(stage, error)))
    if problems:
        raise InputError("\n".join(problems))


def _check(stages: Sequence[Stage], stage: Stage) -> None:
    """The rules of what a stage does."""
    if stage.kind == "filter":
        from_tables(stage.filters, stage.own.threshold, "filters.")
        return
    config = ready(stages, stage)
    check(config)
    if stage.kind == "evaluate":
        check_evaluation(config)


def _names(stages: Sequence[Stage]) -> Iterator[str]:
    seen: set[str] = set()
    for stage in stages:
        if not NAME.fullmatch(stage.name):
            yield (
                f"stages.{stage.number - 1}.name = {shown(stage.name)}: must be letters, digits, "
                "'_', '-' and '.', at most 200, since it names a folder; rename the stage"
            )
        if stage.name in seen:
            yield (
                f"stages.{stage.number - 1}.name = {shown(stage.name)}: another stage has it; "
                "rename one of them"
            )
        seen.add(stage.name)


def _own_keys(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    default = StageSection()
    for kind, keys in OF_KINDS.items():
        for key in keys:
            value = getattr(stage.own, key)
            if kind != stage.kind and value != getattr(default, key):
                yield (
                    f"{key} = {shown(value)}: belongs to a stage of kind {kind}, but this one is "
                    f"of kind {stage.kind}; leave it out"
                )


def _common(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    for key in OF_THE_RUN:
        if any(said == key or said.startswith(f"{key}.") for said in stage.says):
            yield f"{key}: all stages have it in common; set it in the recipe itself"


def _sets(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    """What is filtered, and what is trained on, is made before."""
    if stage.kind == "filter" and before(stages, stage, "generate", "filter") is None:
        yield (
            'kind = "filter": no stage before it makes groups; put one of kind generate there, or '
            "filter by `oapl filter` and name the result in replay.path"
        )
    if stage.kind == "filter" and not stage.filters:
        yield "filters = []: nothing would be filtered; name one, as in filters = [{ name = ... }]"
    replay = stage.config.replay
    is_stored = stage.kind == "train" and replay.source == "stored" and not replay.path
    if is_stored and made_by(stages, stage) is None:
        yield (
            'replay.path = []: replay.source = "stored" trains on what a stage of kind generate or '
            "filter before it has made, and there is none; add one, or name a set"
        )


def _patience(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    if stage.own.patience and not stage.config.eval.is_in_mid_run:
        yield (
            f"patience = {stage.own.patience}: counts evaluations, and none is made in mid-stage; "
            "set eval.every_syncs (or every_steps) and eval.sources, or leave it out"
        )


def _leaves(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    if stage.own.leaves == "best" and not stage.config.checkpoint.keep_best:
        yield (
            'leaves = "best": no checkpoint is known to be the best; set checkpoint.keep_best = '
            'true, or leave "last"'
        )


def _shapes(stages: Sequence[Stage], stage: Stage) -> Iterator[str]:
    last = before(stages, stage, "train")
    if stage.kind != "train" or last is None:
        return
    kept = [part for part in ("optimizer", "reference") if part in taken_over(stages, stage)]
    if not kept:
        return
    differing = changes(last.config, stage.config)
    remedy = f"set it alike, or reset = {shown(kept)}"
    for key in SHAPE:
        if key in differing:
            old, new = differing[key]
            yield (
                f"{key} = {new}: {in_words(last)} has {old}, so its {' and '.join(kept)} cannot be "
                f"taken over; {remedy}"
            )
    if ("values" in needs_of(stage.config)) != ("values" in needs_of(last.config)):
        yield (
            f"objective: one of this stage and {in_words(last)} has a critic and the other none, "
            f"so {' and '.join(kept)} cannot be taken over; {remedy}"
        )


RULES: tuple[Callable[[Sequence[Stage], Stage], Iterator[str]], ...] = (
    _own_keys,
    _common,
    _sets,
    _patience,
    _leaves,
    _shapes,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StagesReport:
    """What was found of all stages.

    Attributes:
        config: The recipe.
        stages: Resolved.
        reports: By the stage's name, of those that were looked at.
    """

    config: RunConfig
    stages: tuple[Stage, ...]
    reports: Mapping[str, PreflightReport]

    def __str__(self) -> str:
        """TOML, then the table of stages and what was found of each as comments, once of such as
        are alike."""
        lines = [to_toml(self.config).rstrip(), "", *(f"# {line}" for line in table(self.stages))]
        last: Stage | None = None
        for stage in (one for one in self.stages if one.name in self.reports):
            found = self.reports[stage.name].lines()
            if last is not None and found == self.reports[last.name].lines():
                lines.append(f"# {in_words(stage)}: as the one before")
            else:
                lines += ["#", f"# {in_words(stage)}", *found]
            last = stage
        return "\n".join(lines)


def look_at_stages(
    config: RunConfig,
    *,
    is_dry: bool = False,
    hardware: Hardware | None = None,
    checkpoint: Path | None = None,
    done: int = 0,
    model: str = "",
    groups: Path | None = None,
) -> StagesReport:
    """Refuse a run of stages in which one cannot work; nothing is started.

    Args:
        config: The run.
        is_dry, hardware: As of `preflight`.
        checkpoint: Of the first stage that has not ended; None where it has not begun.
        done: Stages that have ended, which are not looked at.
        model, groups: What they have left; see `ready`.

    Raises:
        InputError: One line per problem, the stage in front.
    """
    stages = stages_of(config)
    check_stages(stages)
    reports: dict[str, PreflightReport] = {}
    for stage in stages[done:]:
        if stage.kind == "filter":
            continue
        maker = awaited(stages, stage)
        is_to_come = maker is not None and maker.number > done
        begin = Begin(
            checkpoint=checkpoint if stage.number == done + 1 else None,
            awaits=maker.name if maker is not None and is_to_come else "",
        )
        config = ready(stages, stage, model, None if is_to_come else groups)
        reports[stage.name] = look_at(stage, config, begin, is_dry=is_dry, hardware=hardware)
    return StagesReport(config=config, stages=stages, reports=reports)


def look_at_run(config: RunConfig, *, is_dry: bool = False) -> list[PreflightReport]:
    """Look at a run, or at each of its stages.

    Args:
        config: The run.
        is_dry: As of `preflight`.

    Raises:
        InputError: It cannot work.
    """
    if config.is_staged:
        return list(look_at_stages(config, is_dry=is_dry).reports.values())
    return [preflight(config, is_dry=is_dry)]


def look_at(
    stage: Stage,
    config: RunConfig,
    begin: Begin,
    *,
    is_dry: bool = False,
    hardware: Hardware | None = None,
) -> PreflightReport:
    """Look at one stage.

    Args:
        stage: The stage.
        config: From `ready`.
        begin: Where it begins.
        is_dry, hardware: As of `preflight`.

    Raises:
        InputError: It cannot work; the stage in front of each line.
    """
    purpose = PURPOSES[stage.kind]
    try:
        return preflight(config, purpose=purpose, is_dry=is_dry, hardware=hardware, begin=begin)
    except InputError as error:
        raise named(stage, error) from error

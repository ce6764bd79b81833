"""Stages: what a run does one after the other, each the recipe with settings of its own.

    [[stages]]
    name = "imitate"
    objective.name = "sft"
    run.max_steps = 1000

    [[stages]]
    name = "reinforce"
    patience = 3            # or until three evaluations in a row were no better

A stage's sections are laid over the recipe's as a recipe is over one that it extends
(`oapl.config.recipes`). Invariant: what a stage is follows from the recipe alone; which of them
have ended is in the run folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from oapl.config import RunConfig, plugins
from oapl.config.fields import NonNegativeInt, Number, section
from oapl.config.listing import dotted, fields
from oapl.config.messages import explain, shown, unknown_key
from oapl.config.protocols import expanded
from oapl.config.recipes import laid_over
from oapl.errors import InputError

StageKind = Literal["train", "generate", "filter", "evaluate"]
Part = Literal["optimizer", "reference", "data"]
"""What a stage may take over from the one before beside the weights: the moments of Adam (and the
critic, and what the objective remembers), the reference policy, the place in the data. ReMix's
history is of a stage's own iterations."""
PARTS: tuple[Part, ...] = ("optimizer", "reference", "data")
OF_THE_LIST = ("stages", "rounds", "filters")
"""Keys of a recipe that are about its stages."""


@section
class StageSection:
    """A stage's own keys, beside the sections in which it differs from the recipe."""

    name: str = ""
    """Its name, in messages and as a folder in RUN/stages; empty means its kind and number."""
    kind: StageKind = "train"
    """train, by reinforcement or by imitation; generate groups to be stored; filter the groups of
    the stage before; evaluate."""
    like: str = ""
    """Name of an earlier stage: the sections of this one are laid over those of that one."""
    reset: tuple[Part, ...] = ()
    """What a train stage begins anew instead of taking it over from the train stage before it:
    optimizer, reference, data. An objective of another name begins the first two anew anyway."""
    patience: NonNegativeInt = 0
    """A train stage ends before `run.max_steps` after so many evaluations in a row that are no
    better than the best of the stage (the mean over the sets of their mean@n); 0 means never."""
    leaves: Literal["last", "best"] = "last"
    """The policy that a train stage leaves to those after it: its last one, or its best, which
    `checkpoint.keep_best` keeps, and from which only weights are taken over."""
    filters: tuple[dict[str, Any], ...] = ()
    """Of kind filter: instead of the recipe's `filters`."""
    threshold: Number = 0.0
    """Of kind filter: an answer is right where its reward is above this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, resolved.

    Attributes:
        number: Its place among all, from 1.
        own: Its own keys; the name is filled in.
        config: The recipe with its sections, and without stages.
        says: Dotted keys of the settings that it names itself.
    """

    number: int
    own: StageSection
    config: RunConfig
    says: frozenset[str]

    @property
    def name(self) -> str:
        """Its name."""
        return self.own.name

    @property
    def kind(self) -> StageKind:
        """What it does."""
        return self.own.kind

    @property
    def filters(self) -> tuple[dict[str, Any], ...]:
        """The filters that it applies: its own, else the recipe's."""
        return self.own.filters or self.config.filters


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlace:
    """Where a stage stands in its run.

    Attributes:
        number, total: From 1, and how many stages there are.
        name: Its name.
        first: Learner steps that the stages before it have made.
    """

    number: int
    total: int
    name: str
    first: int

    def __str__(self) -> str:
        return f"stage {self.number}/{self.total} {self.name}"


def stages_of(config: RunConfig) -> tuple[Stage, ...]:
    """Resolve the stages of a run; none of a run that has none.

    Raises:
        InputError: A key or value is wrong by itself, with the stage's number in front.
    """
    if config.stages and config.rounds:
        raise InputError(
            f"rounds = {config.rounds}: is short for stages, and the recipe has "
            f"{len(config.stages)} of its own; leave one of the two out"
        )
    tables = config.stages or tuple(_rounds(config))
    whole = _lists(dataclasses.asdict(config))
    recipe = {key: value for key, value in whole.items() if key not in OF_THE_LIST}
    made: list[Stage] = []
    problems: list[str] = []
    for index, table in enumerate(tables):
        try:
            made.append(_stage(config, recipe, table, made, index))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return tuple(made)


def _rounds(config: RunConfig) -> Iterator[dict[str, Any]]:
    """Each round begins from the model that the one before has made, as a new run would."""
    for number in range(1, config.rounds + 1):
        yield {"name": f"generate-{number}", "kind": "generate"}
        if config.filters:
            yield {"name": f"filter-{number}", "kind": "filter"}
        yield {"name": f"train-{number}", "reset": PARTS, "replay": {"source": "stored"}}


def _stage(
    config: RunConfig,
    recipe: Mapping[str, Any],
    table: Mapping[str, Any],
    earlier: Sequence[Stage],
    index: int,
) -> Stage:
    prefix = f"stages.{index}."
    keys = fields(StageSection)
    own = plugins.parse(StageSection, {k: v for k, v in table.items() if k in keys}, prefix)
    sections = {key: value for key, value in table.items() if key not in keys}
    wrong = {key for key in sections if key not in recipe}
    if wrong:
        raise InputError("\n".join(_unknown(key, prefix) for key in sorted(wrong)))
    if not own.name:
        own = dataclasses.replace(own, name=f"{own.kind}-{index + 1}")
    says = frozenset(_said(sections, ()))
    if own.like:
        like = _named(earlier, own.like, prefix)
        recipe = {key: _lists(value) for key, value in dataclasses.asdict(like.config).items()}
        says |= like.says
    try:
        resolved = RunConfig(**{**laid_over(recipe, expanded(sections)), "filters": config.filters})
    except ValidationError as error:
        raise InputError("\n".join(explain(error, prefix=prefix))) from error
    except InputError as error:
        raise InputError(f"{prefix.rstrip('.')}: {error}") from error
    return Stage(number=index + 1, own=own, config=resolved, says=says)


def _named(earlier: Sequence[Stage], name: str, prefix: str) -> Stage:
    found = [stage for stage in earlier if stage.name == name]
    if not found:
        names = ", ".join(stage.name for stage in earlier) or "none"
        raise InputError(
            f"{prefix}like = {shown(name)}: must name a stage before this one; there are {names}"
        )
    return found[0]


def _lists(value: Any) -> Any:
    """The same with lists for tuples, as a recipe has them."""
    if isinstance(value, Mapping):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def _unknown(key: str, prefix: str) -> str:
    if key in OF_THE_LIST:
        return f"{prefix}{key}: is of the whole recipe, not of a stage; leave it out"
    own = ", ".join(fields(StageSection))
    return f"{unknown_key([key], prefix=prefix)}; a stage has these sections, and {own}"


def _said(table: Mapping[str, Any], path: Sequence[str]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _said(value, (*path, key))
        else:
            yield dotted((*path, key))


def changes(before: RunConfig, after: RunConfig) -> dict[str, tuple[str, str]]:
    """Tell in which settings two configurations differ.

    Args:
        before, after: Of two stages, say.

    Returns:
        By dotted key, what it was and what it is, as they are shown in messages.
    """
    both = [dataclasses.asdict(one) for one in (before, after)]
    old, new = (dict(_flat(one, ())) for one in both)
    theirs, ours = (_of_sources(one) for one in both)
    for name in (name for name in theirs if name in ours):
        old |= {f"{name}.{key}": value for key, value in theirs[name].items()}
        new |= {f"{name}.{key}": value for key, value in ours[name].items()}
    keys = [*old, *(key for key in new if key not in old)]
    return {key: (_told(old, key), _told(new, key)) for key in keys if old.get(key) != new.get(key)}


def _flat(table: Mapping[str, Any], path: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if key == "sources":
            yield dotted((*path, key)), ", ".join(source["name"] for source in value) or "none"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*path, key))
        elif key != "sources":
            yield dotted((*path, key)), value


def _of_sources(table: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sources by section and name."""
    return {
        f"{section}.sources.{source['name']}": source
        for section in ("data", "eval")
        for source in table[section]["sources"]
    }


def _told(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "-"
    return settings[key] if key.endswith(".sources") else shown(settings[key])

"""What the chosen objective declares, read without building it; nobody asks for its name.

Where batches come from, whether there are engines, and whether responses are judged: each question
has its function; they read `replay.source`, the evaluation sets and the objective's declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator

from oapl.config import RunConfig, plugins
from oapl.config.fields import Count, Flag, Fraction, NonNegativeInt, section
from oapl.config.kinds import Kind
from oapl.config.listing import fields
from oapl.errors import InputError

FROZEN = ("sampler", "reference", "previous")
"""Needs that are log-probs of a copy of the policy: the one that sampled, the reference, the one
before the last iteration."""
Need = Literal[
    "entropy",
    "entropy_gradient",
    "proximal",
    "prepared",
    "kept_counts",
    "sampler",
    "reference",
    "previous",
    "state",
    "token_credit",
    "values",
    "history",
]
"""What an objective may ask for: the entropy; an entropy that can be part of the loss; proximal
log-probs, those before the iteration's first update; these even where an iteration is one update,
since they are read before it; denominators without the tokens that its `keeps` leaves out; those of
`FROZEN`; to be told each step's metrics, of which it keeps a state; credit per token, computed once
per iteration; a critic's values; and groups of earlier iterations beside fresh ones (`History`)."""


Source = Literal["live", "stored", "examples"]
Purpose = Literal["train", "evaluate", "generate"]
"""What a command makes of a recipe."""


def _consistent(needs: frozenset[Need]) -> frozenset[Need]:
    if "values" in needs and "token_credit" not in needs:
        raise ValueError(
            "has values but no token_credit, and a critic learns the returns that token_credit "
            "gives; add token_credit, or leave values out"
        )
    return needs


@section
class History:
    """What an objective wants of the groups that the last iterations trained on."""

    share: Fraction
    """Share of a take's rollouts that are history, once there is enough of it."""
    iterations: Count
    """N: groups of the last so many iterations are kept."""
    until: NonNegativeInt = 0
    """Iterations after which takes are fresh, and the reference is set anew; 0 means never."""


@section
class Declarations:
    """What must be known of an objective before it is built: the most that any options ask for. An
    objective that is built has its own (`oapl.interfaces.Objective`), which may ask for less."""

    needs: Annotated[frozenset[Need], AfterValidator(_consistent)]
    """What the learner computes for it beside log-probs; see `Need`."""
    min_group_size: Count
    """Fewest rollouts of a prompt that its credit can compare; 1 where it compares none."""
    samples: Flag
    """true: engines sample its rollouts, which are judged; false: it imitates given responses."""
    needs_inference_logprobs: Flag
    """true: its loss uses the log-probs recorded at sampling, so no top-p or top-k may cut it."""
    at_temperature: Flag = True
    """true: its log-probs are those at the sampling temperature; false: those at temperature 1,
    since it compares them with nothing that was sampled."""
    history: History | None = None
    """Given by a built objective of which `history` is a need."""
    lacks: dict[str, str] = field(default_factory=dict)
    """Options that people look for in it and that it cannot have, by the beginning of their names,
    and why: "there is no ratio that could be clipped"."""


class ObjectiveFile(Protocol):
    """A file of `oapl/objectives/`, or a module of the user's own."""

    DECLARES: Annotated[
        Declarations,
        "what is known of the objective before it is built",
        'DECLARES = Declarations(needs=frozenset({"entropy"}), min_group_size=2, samples=True, '
        "needs_inference_logprobs=True)",
    ]
    Config: Annotated[type, "its options", "@section class Config: ..."]
    Objective: Annotated[
        Callable[[Any], Any],
        "the objective itself, built from its Config",
        "class Objective: ... (see oapl.interfaces.Objective)",
    ]


OBJECTIVES: Kind[ObjectiveFile] = Kind("oapl.objectives", ObjectiveFile)


def parse(options: Mapping[str, Any]) -> tuple[ObjectiveFile, Any]:
    """Read what `[objective]` says.

    Args:
        options: With `name`, the file's; the others are its own.

    Returns:
        The file, and its `Config` made of the options.

    Raises:
        InputError: One line per problem; of an option of other objectives, who has it, and why this
            one has not.
    """
    own = {key: value for key, value in options.items() if key != "name"}
    name = options.get("name", "oapl")
    file = OBJECTIVES.load(name, "objective.name")
    lines = {key: line for key in own if (line := _lacking(file, str(name), key))}
    try:
        rest = {key: value for key, value in own.items() if key not in lines}
        config: Any = plugins.parse(file.Config, rest, "objective.")
    except InputError as error:
        raise InputError("\n".join([*lines.values(), str(error)])) from error
    if lines:
        raise InputError("\n".join(lines.values()))
    return file, config


def _lacking(file: ObjectiveFile, name: str, key: str) -> str:
    """The line for an option that others have, or that this one cannot have; empty for the rest."""
    if key in fields(file.Config):
        return ""
    reasons = [why for start, why in file.DECLARES.lacks.items() if key.startswith(start)]
    others = [other for other in OBJECTIVES.names() if key in fields(OBJECTIVES.load(other).Config)]
    if not reasons and not others:
        return ""
    why = f": {reasons[0]}" if reasons else ""
    choice = f", or choose objective.name = {' or '.join(map(repr, others))}" if others else ""
    return f"objective.{key}: {name} has no such option{why}; leave it out{choice}"


def scored_before(needs: frozenset[Need], steps_per_take: int) -> tuple[str, ...]:
    """List the policies that must score an iteration's tokens before its first update.

    Args:
        needs: Of the objective.
        steps_per_take: Learner steps of an iteration; with one, the policy before it is the one
            that is updated, and scores nothing apart, unless its answer is read before that.
    """
    moves = "proximal" in needs and (steps_per_take > 1 or "prepared" in needs)
    copies = tuple(name for name in FROZEN if name in needs)
    return ("proximal", *copies) if moves else copies


def is_prepared(needs: frozenset[Need], steps_per_take: int) -> bool:
    """Whether anything is computed of an iteration before its first update.

    Args:
        needs, steps_per_take: As for `scored_before`.
    """
    return "token_credit" in needs or bool(scored_before(needs, steps_per_take))


def kept_samplers(config: RunConfig) -> int:
    """Count the published policies whose groups may still be trained on: two with a lead."""
    return 2 if config.sync.max_lead else 1


def num_copies(needs: frozenset[Need], config: RunConfig) -> int:
    """Count the copies of the policy that a rank holds for an objective.

    Args:
        needs: Of the objective.
        config: The run's.
    """
    copies = {"sampler": kept_samplers(config), "reference": 1, "previous": 1}
    return sum(number for name, number in copies.items() if name in needs)


def declared(config: RunConfig) -> Declarations:
    """The declarations of the objective that the run names.

    Raises:
        InputError: There is no such objective, or its file declares nothing.
    """
    return OBJECTIVES.load(config.objective["name"], "objective.name").DECLARES


def source_of(config: RunConfig) -> Source:
    """Tell where batches come from: generated meanwhile, a set of stored groups, or a file of given
    responses (which an objective imitates, unless there is a set)."""
    if config.replay.source == "stored":
        return "stored"
    return "live" if declared(config).samples else "examples"


def verb_of(config: RunConfig) -> str:
    """The command that does a run: `train`, which does stages too, or `sft`."""
    return "train" if config.is_staged or declared(config).samples else "sft"


def samples(config: RunConfig) -> bool:
    """Whether engines sample what the learner trains on."""
    return source_of(config) == "live"


def has_engines(config: RunConfig) -> bool:
    """Whether there are engines, to sample or to evaluate."""
    return samples(config) or bool(config.eval.sources)


def is_judged(config: RunConfig) -> bool:
    """Whether responses get rewards in this run, so that there are verifiers and reward servers:
    what is stored has its own."""
    return has_engines(config)

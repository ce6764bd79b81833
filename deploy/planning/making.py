"""A plan: what is asked, what is known, and what follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.checks.settings import check
from deploy.planning import bench, run
from deploy.planning.assumptions import assumed
from deploy.planning.cards import Card, card
from deploy.planning.lengths import Found, lengths_of, set_in
from deploy.planning.model import Model, model_of, of_shape
from deploy.planning.recipe import laid_over, stage_of, task_of
from deploy.sizing.hardware import Hardware
from deploy.sizing.memory import engine_item
from deploy.sizing.report import size
from deploy.sizing.shape import Shape
from deploy.sizing.shape import lengths_of as context_lengths
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.planning.forecast import forecast
from oapl.planning.foreseen import Forecast
from oapl.planning.rates import FIELDS, GIVEN, MEASURED, Rate, Rates
from oapl.planning.search import Best, best
from oapl.planning.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is to be of, beside the recipe.

    Attributes:
        hardware: The machine; None: what the recipe takes.
        card: Name of each device; empty: the usual one.
        rates: A run folder or a table of `make bench`; None: neither.
        bench_model: Whose rows of that table.
        given: Rates by name.
        lengths: See `deploy.planning.lengths`.
        parameters: Of the model; 0: read them.
        shape: The model's, where it is known without its files.
        stage: See `deploy.planning.recipe.stage_of`.
        max_lag: Largest lag, in learner steps; None: that of the recipe.
        questions: That are answered before, for a run on stored rollouts.
        is_searched: Look for other settings.
        price: Of a device-hour, in any currency; 0: no cost is told.
        seed: Of what is drawn.
    """

    hardware: Hardware | None = None
    card: str = ""
    rates: Path | None = None
    bench_model: str = ""
    given: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lengths: str = ""
    parameters: float = 0.0
    shape: Shape | None = None
    stage: str = ""
    max_lag: int | None = None
    questions: int = 0
    is_searched: bool = True
    price: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is told.

    Attributes:
        asked: See there.
        task, found: As the recipe has it.
        card, model, lengths, rates: What it was made of.
        max_lag: The bound on the lag that was searched within.
        best: What was found; None where nothing can be chosen, or all of it was refused.
        notes: What a reader should know: what was not looked at, rates of another model.
    """

    asked: Asked
    task: Task
    found: Forecast
    card: Card
    model: Model
    lengths: Found
    rates: Rates
    max_lag: int
    best: Best | None
    notes: tuple[str, ...]


def plan(config: RunConfig, asked: Asked) -> Plan:
    """Make it.

    Args:
        config: The recipe.
        asked: What of it.

    Raises:
        InputError: Something of it cannot be.
    """
    config = stage_of(config, asked.stage)
    if asked.hardware is not None:
        cluster = dataclasses.replace(config.cluster, device=asked.hardware.device)
        config = dataclasses.replace(config, cluster=cluster)
    check(config)
    item = engine_item(config)
    model = of_shape(asked.shape, item) if asked.shape else model_of(config, asked.parameters, item)
    sent = model.parameters * item
    answers = asked.questions * config.rollout.group_size
    task = task_of(config, asked.hardware, publication_bytes=sent, answers=answers)
    one = card(asked.card, config.cluster.device, config.cluster.peak_tflops)
    lengths = _lengths(config, asked)
    rates = assumed(config, model, one, lengths.table, asked.hardware)
    rates = rates.updated(_known(asked, lengths, sent))
    max_lag = _bound(task) if asked.max_lag is None else asked.max_lag
    if max_lag < task.steps_per_take - 1:
        raise InputError(
            f"--max-lag {max_lag}: an iteration of {task.steps_per_take} learner steps alone has a "
            f"lag of {task.steps_per_take - 1}; allow that much"
        )
    allows, notes = _allows(config, model, asked.hardware)
    if asked.rates is not None and not asked.rates.is_file():
        notes = (*run.differences(asked.rates, config), *notes)
    found = None
    if task.engines and asked.is_searched:
        found = best(task, rates, lengths.table, max_lag=max_lag, allows=allows)
    return Plan(
        asked=asked,
        task=task,
        found=forecast(task, rates, lengths.table),
        card=one,
        model=model,
        lengths=lengths,
        rates=rates,
        max_lag=max_lag,
        best=found,
        notes=notes,
    )


def _lengths(config: RunConfig, asked: Asked) -> Found:
    """As given; else those of the run whose rates are taken: its stored groups, or its mean."""
    place = asked.rates
    if asked.lengths or place is None or place.is_file():
        return lengths_of(config, asked.lengths, asked.seed)
    if set_in(place) is not None:
        return lengths_of(config, str(place), asked.seed)
    if not (mean := run.mean_length(place)):
        return lengths_of(config, "", asked.seed)
    found = lengths_of(config, f"mean={mean:.6g}", asked.seed)
    why = f"{place.name}, the mean alone; {found.mean.why}"
    return dataclasses.replace(found, mean=Rate(mean, MEASURED, why))


def _bound(task: Task) -> int:
    return task.interval - 1 + min(task.max_lead, task.interval)


def _known(asked: Asked, lengths: Found, sent: float) -> dict[str, Rate]:
    """Measured, then given: who says a number knows better."""
    found: dict[str, Rate] = {}
    if asked.rates is not None and asked.rates.is_file():
        found |= bench.measured(asked.rates, asked.bench_model, sent)
    elif asked.rates is not None:
        found |= run.measured(asked.rates, lengths.table.activity)
    if lengths.prompt is not None:
        found["prompt_tokens"] = lengths.prompt
    return found | {name: Rate(value, GIVEN) for name, value in asked.given.items()}


def rate_of(text: str) -> tuple[str, float]:
    """Read `NAME=VALUE`.

    Args:
        text: As it is written on the command line.

    Raises:
        InputError: There is no such rate, or no such value of it.
    """
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if name not in FIELDS:
        raise InputError(f"--rate {text}: there is no rate {name!r}; there are {', '.join(FIELDS)}")
    may_be_nothing = name.endswith("_s") and not name.endswith("_per_s")
    is_right = 0 <= value < float("inf") and (value > 0 or may_be_nothing)
    is_right = is_right and (name != "kept" or value <= 1) and (name != "alone" or value >= 1)
    if not is_right:
        raise InputError(
            f"--rate {text}: is no {name}; seconds are at least 0, `kept` is above 0 and at most "
            "1, `alone` at least 1, all others above 0"
        )
    return name, value


def _allows(
    config: RunConfig, model: Model, hardware: Hardware | None
) -> tuple[Callable[[Task], bool], tuple[str, ...]]:
    """Whether the rules of settings and the memory of cards take a candidate; what is not seen."""
    known: dict[tuple[int, int], bool] = {}
    is_sized = model.shape is not None and hardware is not None and hardware.device != "cpu"

    def fits(candidate: RunConfig) -> bool:
        key = (candidate.learner.num_ranks, candidate.rollout.num_engines)
        if key not in known:
            context = candidate.rollout.context_tokens or 2 * candidate.rollout.max_tokens
            lengths = context_lengths(candidate, context, None)
            assert model.shape is not None
            known[key] = not size(candidate, model.shape, lengths, hardware).problems
        return known[key]

    def allows(task: Task) -> bool:
        candidate = laid_over(config, task)
        try:
            check(candidate)
        except InputError:
            return False
        return fits(candidate) if is_sized else True

    unseen = (
        "the memory of other divisions was not looked at; name a machine of cards by --for, and a "
        "model that is here, or known to the hub",
    )
    return allows, () if is_sized else unseen

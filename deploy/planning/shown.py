"""A plan as tables and words, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deploy.planning.making import Plan
from deploy.planning.recipe import stragglers
from oapl.planning.foreseen import Forecast
from oapl.planning.rates import ASSUMED, FIELDS, UNITS
from oapl.planning.task import Task

LEFT_OUT = (
    "not simulated: starts, faults, evaluations, checkpoints, the prefill of prompts, engines that "
    "load one after the other; ranks count as if twice as many were twice as fast"
)


def show(plan: Plan, console: Console) -> None:
    """Print a plan.

    Args:
        plan: What was found.
        console: Where to.
    """

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    console.print(_rates(plan))
    console.print(_outcome(plan))
    for line in sentences(plan):
        say(line)


def sentences(plan: Plan) -> list[str]:
    """What is told in words: bottlenecks, what was assumed, what was not looked at."""
    lines = [f"as the recipe has it: {plan.found.bottleneck}"]
    if plan.best is not None:
        lines.append(f"best: {changes(plan.task, plan.best.task) or 'the recipe itself'}")
        lines.append(f"then: {plan.best.found.bottleneck}")
    elif plan.task.engines:
        lines.append(f"best: nothing is allowed within a lag of {plan.max_lag} steps")
    guessed = plan.rates.assumed()
    if plan.lengths.mean.kind == ASSUMED:
        guessed = ["lengths", *guessed]
    if guessed:
        lines.append(
            f"ASSUMED, measured by nobody: {', '.join(guessed)}; give --rates, --lengths or --rate"
        )
    scale = max([plan.found.scale, *([plan.best.found.scale] if plan.best else [])])
    if scale > 1:
        lines.append(f"simulated at up to 1/{scale} of the size")
    lines += [f"note: {what}" for what in plan.notes]
    return [*lines, LEFT_OUT]


def changes(old: Task, new: Task) -> str:
    """Name the settings in which a task differs, as overrides.

    Args:
        old: The recipe's.
        new: What was found.
    """
    found = {
        "sync.interval": (old.interval, new.interval),
        "sync.max_lead": (old.max_lead, new.max_lead),
        "sync.stragglers": (stragglers(old), stragglers(new)),
        "replay.surplus": (old.surplus, new.surplus),
        "rollout.num_engines": (old.engines, new.engines),
        "learner.num_ranks": (old.ranks, new.ranks),
    }
    changed = ((key, new) for key, (old, new) in found.items() if old != new)
    return " ".join(f"{key}={new if isinstance(new, str) else f'{new:g}'}" for key, new in changed)


def as_json(plan: Plan) -> str:
    """The same as JSON.

    Args:
        plan: What was found.
    """
    found: dict[str, Any] = {
        "rates": {
            name: {**dataclasses.asdict(getattr(plan.rates, name)), "unit": UNITS[name]}
            for name in FIELDS
        },
        "lengths": {
            **dataclasses.asdict(plan.lengths.mean),
            "group_size": plan.lengths.table.size,
            "longest_mean": float(plan.lengths.table.rows.max(axis=1).mean()),
        },
        "card": dataclasses.asdict(plan.card),
        "parameters": plan.model.parameters,
        "assumed": plan.rates.assumed(),
        "max_lag": plan.max_lag,
        "recipe": _as_table(plan, plan.task, plan.found),
        "best": None,
        "sentences": sentences(plan),
    }
    if plan.best is not None:
        best = plan.best
        found["best"] = {
            **_as_table(plan, best.task, best.found),
            "overrides": changes(plan.task, best.task),
            "tried": best.tried,
        }
    return json.dumps(found, indent=1)


def _as_table(plan: Plan, task: Task, found: Forecast) -> dict[str, Any]:
    cost = {"cost": found.device_hours * plan.asked.price} if plan.asked.price else {}
    return {"task": dataclasses.asdict(task), **dataclasses.asdict(found), **cost}


def _rates(plan: Plan) -> Table:
    table = Table(title="what is known", box=box.SIMPLE_HEAVY)
    table.add_column("rate", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold")
    table.add_column("by whom", no_wrap=True)
    table.add_column("from", overflow="fold")
    rows = [("length of a response", plan.lengths.mean, "tokens, mean")]
    rows += [(name, getattr(plan.rates, name), UNITS[name]) for name in FIELDS]
    for name, rate, unit in rows:
        kind = rate.kind.upper() if rate.kind == ASSUMED else rate.kind
        table.add_row(name, figure(rate.value), unit, kind, rate.why)
    return table


def _outcome(plan: Plan) -> Table:
    table = Table(title=f"what follows, {plan.task.devices} devices", box=box.SIMPLE_HEAVY)
    table.add_column("", overflow="fold")
    sides = [("recipe", plan.task, plan.found)]
    if plan.best is not None:
        sides.append((f"best, lag <= {plan.max_lag}", plan.best.task, plan.best.found))
    columns = [dict(_rows(plan, task, found)) for _, task, found in sides]
    for name, _, _ in sides:
        table.add_column(name, justify="right", overflow="fold")
    for heading in columns[0]:
        table.add_row(heading, *(column.get(heading, "") for column in columns))
    return table


def _rows(plan: Plan, task: Task, found: Forecast) -> Iterator[tuple[str, str]]:
    yield "engines, ranks", f"{task.engines}, {task.ranks}"
    yield "devices that stand by", f"{task.devices - task.held:g}"
    if task.engines:
        yield "L, surplus, lead", f"{task.interval}, {task.surplus:g}, {task.max_lead}"
        yield "a period's last rollouts", "moved" if task.moves else "waited for"
        yield "learner waits for groups", f"{found.waits:.1%}"
        yield "learner: publications, messages", f"{found.between:.1%}"
        yield "engines' places empty", f"{found.engine_idle:.1%}"
        yield "tokens thrown away", f"{found.wasted:.1%}"
        yield "lag, mean and largest", f"{found.mean_lag:.1f}, {found.largest_lag}"
    yield "a learner step", f"{figure(found.step_s)} s"
    yield "   the learner alone", f"{figure(found.learner_s)} s"
    if task.engines:
        yield "   full engines alone", f"{figure(found.engines_s)} s"
        yield "tokens made", f"{figure(found.tokens_per_s)} /s"
    if found.making_hours:
        yield "hours: rollouts before", figure(found.making_hours)
    yield f"hours: {task.max_steps} learner steps", figure(found.hours)
    yield "device-hours", figure(found.device_hours)
    if plan.asked.price:
        yield "cost", f"{found.device_hours * plan.asked.price:,.0f}"
    for name, seconds in found.publish_s.items():
        yield f"a publication by {name}", f"{figure(seconds)} s"
    yield "load of the reward processes", f"{found.reward_load:.1%}"
    if task.engines:
        yield "load of the replay buffer", f"{found.replay_load:.1%}"


def figure(value: float) -> str:
    """Write a number with three digits that count.

    Args:
        value: At least 0.
    """
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"

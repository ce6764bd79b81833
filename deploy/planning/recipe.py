"""A recipe as a task, and a task's choices back in a recipe."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from actors.engines.base import ENGINES
from deploy.sizing.hardware import Hardware
from oapl.config import RunConfig
from oapl.config.objective import has_engines, source_of
from oapl.config.stages import stages_of
from oapl.devices.base import engine_name, num_devices
from oapl.errors import InputError
from oapl.objectives.base import build
from oapl.planning.task import Task
from oapl.replay.periods import PeriodNeeds

PER_NODE = 8
"""Devices of a host, where a host is full of cards."""


def stage_of(config: RunConfig, name: str) -> RunConfig:
    """Choose the stage that is planned.

    Args:
        config: The whole run.
        name: Of the stage; empty where the run has none.

    Raises:
        InputError: The run has stages and none of that name, or none was asked for.
    """
    stages = [stage for stage in stages_of(config) if stage.kind == "train"]
    if not stages and not name:
        return config
    named = [stage.config for stage in stages if stage.name == name]
    if not named:
        known = ", ".join(stage.name for stage in stages)
        remedy = f"choose one by --stage: {known}" if known else "there are none: leave --stage out"
        raise InputError(f"--stage {name or '(none)'}: a plan is of one train stage; {remedy}")
    return named[0]


def task_of(
    config: RunConfig, hardware: Hardware | None, *, publication_bytes: float, answers: int
) -> Task:
    """Read what a recipe asks for.

    Args:
        config: The run.
        hardware: The machine; None: as many devices as the recipe takes.
        publication_bytes: Of one publication.
        answers: Rollouts that are made before, for a run on stored ones; 0: not planned.

    Raises:
        InputError: It takes what is not planned, or more devices than there are.
    """
    _demand_plain(config)
    is_live = has_engines(config) and source_of(config) == "live"
    task = Task(
        interval=config.sync.interval,
        max_steps=config.run.max_steps,
        groups_per_step=max(1, config.learner.batch_size // config.rollout.group_size),
        group_size=config.rollout.group_size,
        phases=_phases(config) if is_live else ((config.run.max_steps, 0),),
        groups_per_engine=config.rollout.max_groups_in_flight,
        engines=config.num_collecting if is_live else 0,
        ranks=config.learner.num_ranks,
        devices=0,
        devices_per_engine=num_devices(config, "worker"),
        devices_per_rank=num_devices(config, "trainer"),
        devices_per_node=PER_NODE,
        mini_batches=config.learner.mini_batches,
        updates_per_batch=config.learner.updates_per_batch,
        surplus=config.replay.surplus,
        max_lead=config.sync.max_lead,
        moves=config.sync.stragglers == "move",
        capacity=config.replay.capacity,
        publication_bytes=publication_bytes,
        transport=config.sync.transport,
        judges=config.reward.workers * config.reward.servers,
        answers=answers,
        is_bound=is_live and build(config.objective).declares.history is not None,
    )
    held = math.ceil(task.held - 1e-9)
    count = held
    if config.cluster.device == "cpu":  # processes share machines, as many as are named
        machines = hardware.count if hardware is not None else 1
        task = dataclasses.replace(task, devices_per_node=math.ceil(held / machines))
    elif hardware is not None:
        count = hardware.count
    if held > count:
        raise InputError(
            f"--for {hardware}: the recipe takes {held} devices ({task.engines} engines, "
            f"{task.ranks} ranks); lower rollout.num_engines or learner.num_ranks, or name more"
        )
    return dataclasses.replace(task, devices=count)


def laid_over(config: RunConfig, task: Task) -> RunConfig:
    """Give the recipe the choices of a task: engines, ranks, L, surplus, lead and stragglers.

    Args:
        config: The run.
        task: What was chosen.
    """

    def changed(section: str, **values: float | str) -> Any:
        return dataclasses.replace(getattr(config, section), **values)

    set_aside = config.rollout.num_engines - config.num_collecting
    return dataclasses.replace(
        config,
        rollout=changed("rollout", num_engines=task.engines + set_aside),
        learner=changed("learner", num_ranks=task.ranks),
        sync=changed(
            "sync",
            interval=task.interval,
            max_lead=task.max_lead,
            stragglers=stragglers(task),
        ),
        replay=changed("replay", surplus=task.surplus),
    )


def stragglers(task: Task) -> str:
    """Name what a task does with a period's last groups, as `sync.stragglers` has it."""
    return "move" if task.moves else "wait"


def most_sequences(config: RunConfig) -> float:
    """Rollouts that one engine samples at a time at most: its option, or that option's default."""
    default = getattr(
        ENGINES.load(engine_name(config), "rollout.engine").Config, "max_num_seqs", 256
    )
    return float(config.rollout.engine_options.get("max_num_seqs", default))


def _demand_plain(config: RunConfig) -> None:
    for key, value in (
        ("replay.max_versions", config.replay.max_versions),
        ("replay.max_uses", config.replay.max_uses),
    ):
        if value > 1:
            raise InputError(
                f"{key} is {value}, but a plan is of buffers with one version whose groups are "
                f"used once; plan with {key}=1"
            )


def _phases(config: RunConfig) -> tuple[tuple[int, int], ...]:
    """Learner steps with history in their takes, then those without, each with a take's fresh
    groups."""
    history = build(config.objective).declares.history
    needs = PeriodNeeds.of(config, history)
    whole = needs.groups_per_take
    if history is None or not history.share:
        return ((config.run.max_steps, whole),)
    mixed = needs.fresh(whole, 0, whole)
    until = history.until * config.steps_per_take or config.run.max_steps
    first = min(until, config.run.max_steps)
    rest = config.run.max_steps - first
    return ((first, mixed), *(((rest, whole),) if rest else ()))

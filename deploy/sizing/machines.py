"""Whether a run fits the machines or cards that it is given."""

from __future__ import annotations

import math

from deploy.sizing.engine_memory import engine_memory, kv_token_bytes, memory_fraction
from deploy.sizing.hardware import GIB, Hardware
from deploy.sizing.learner_memory import rank_memory
from deploy.sizing.memory import gib
from deploy.sizing.publication import kept_versions, publication_bytes
from deploy.sizing.remedies import engine_changes, enough, learner_changes
from deploy.sizing.shape import Lengths, Shape
from oapl.config import RunConfig
from oapl.config.objective import has_engines
from oapl.devices.base import num_devices

OTHERS_CPU_GIB = 1.2
"""GiB of driver, Ray's servers, replay and a reward server with two workers, on a CPU."""
USABLE = 0.95
"""Of a card, for a learner rank: the rest goes to fragments and to the driver."""


def on_machines(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware
) -> tuple[str, list[str]]:
    """Count everything in main memory.

    Args:
        config: The run.
        shape: The model's.
        lengths: Of the sequences.
        hardware: The machines.

    Returns:
        What is used of what there is, and what does not fit.
    """

    def used(candidate: RunConfig) -> int:
        total = int(OTHERS_CPU_GIB * GIB) * hardware.count
        total += candidate.learner.num_ranks * rank_memory(candidate, shape, lengths.longest).total
        if has_engines(candidate):
            engine = engine_memory(candidate, shape, lengths, hardware)
            total += candidate.rollout.num_engines * engine.total
            total += kept_versions(candidate) * publication_bytes(candidate, shape)
        return total

    there = hardware.bytes * hardware.count
    fact = f"{gib(used(config))} of {hardware}"
    if used(config) <= there:
        return fact, []
    changes = [*learner_changes(config, lengths), *engine_changes(config, shape, lengths)]
    remedy = enough(config, lambda candidate: used(candidate) <= there, changes)
    return fact, [f"the run needs {gib(used(config))}, but there are {hardware}; {remedy}"]


def on_cards(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware
) -> tuple[str, list[str]]:
    """Count learner ranks and engines, on cards of their own or sharing some.

    Args:
        config: The run.
        shape: The model's.
        lengths: Of the sequences.
        hardware: The cards.

    Returns:
        Who takes how many of them, and what does not fit.
    """
    fact, too_few = _devices(config, hardware)
    memory = (_rank_room, _engine_room) if has_engines(config) else (_rank_room,)
    too_small = [room(config, shape, lengths, hardware) for room in memory]
    return fact, [problem for problem in (too_few, *too_small) if problem]


def _devices(config: RunConfig, hardware: Hardware) -> tuple[str, str]:
    """Who takes how many cards, and what is wrong with that; empty where nothing is."""
    num_ranks = config.learner.num_ranks
    per_rank, per_engine = _shares(config)
    for_ranks = num_ranks * per_rank
    engines = config.rollout.num_engines if has_engines(config) else 0
    used = math.ceil(for_ranks + engines * per_engine)
    idle = hardware.count - used
    fact = (
        f"{hardware}: {for_ranks:g} for {num_ranks} learner ranks, {engines * per_engine:g} for "
        f"{engines} engines, {max(idle, 0)} idle"
    )
    more = int((hardware.count - for_ranks) // per_engine)
    if idle >= 0:
        hint = f" (rollout.num_engines = {more} would use them)"
        return fact + (hint if engines and idle >= per_engine else ""), ""
    is_enough = engines and more > 0
    remedy = f"set rollout.num_engines = {more}" if is_enough else "lower learner.num_ranks"
    beside = f" and rollout.num_engines = {engines}" if engines else ""
    return fact, (
        f"learner.num_ranks = {num_ranks}{beside} take {used} devices, but there are "
        f"{hardware.count}; {remedy}"
    )


def _rank_room(config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware) -> str:
    """Why a learner rank does not fit a card, beside its engine where they share one; or empty."""
    shares_card = _shares(config)[0] < 1

    def fits(candidate: RunConfig) -> bool:
        room = hardware.bytes * USABLE
        if shares_card and has_engines(candidate):
            room -= hardware.bytes * memory_fraction(candidate)
        return rank_memory(candidate, shape, lengths.longest).total <= room

    if fits(config):
        return ""
    needed = rank_memory(config, shape, lengths.longest).total
    remedy = enough(config, fits, learner_changes(config, lengths, hardware))
    return f"a learner rank needs {gib(needed)} of {hardware}; {remedy}"


def _engine_room(config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware) -> str:
    """Why an engine does not fit its part of a card with one rollout; or empty."""
    longest = max(lengths.longest, config.eval.context_tokens if config.eval.sources else 0)

    def fits(candidate: RunConfig) -> bool:
        engine = engine_memory(candidate, shape, lengths, hardware)
        needed = kv_token_bytes(candidate, shape) * longest
        room = hardware.bytes * memory_fraction(candidate)
        return engine.parts["KV cache"] >= needed and engine.total <= room

    if fits(config):
        return ""
    remedy = enough(config, fits, engine_changes(config, shape, lengths))
    return (
        f"an engine has no room for one rollout of {longest} tokens in "
        f"{memory_fraction(config):.2f} of {hardware}; {remedy}"
    )


def _shares(config: RunConfig) -> tuple[float, float]:
    """Devices of a learner rank and of an engine."""
    return num_devices(config, "trainer"), num_devices(config, "worker")

"""All of it for one run: the figures in words, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.sizing.engine_memory import engine_memory, rollouts_at_a_time
from deploy.sizing.hardware import Hardware
from deploy.sizing.learner_memory import rank_memory
from deploy.sizing.machines import on_cards, on_machines
from deploy.sizing.memory import Memory, gib, kind
from deploy.sizing.publication import publication_bytes
from deploy.sizing.shape import Lengths, Shape
from oapl.config import RunConfig
from oapl.config.objective import has_engines


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a run will use.

    Attributes:
        rank, engine: Of one learner rank, and of one device of an engine (None for imitation).
        facts: Name to one line of text.
        problems: What does not fit, each with a setting to change.
        unchecked: What could not be looked at from here.
    """

    rank: Memory
    engine: Memory | None
    facts: Mapping[str, str]
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = field(default=())


def engine_facts(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware | None = None
) -> dict[str, str]:
    """Count what one device of an engine will use, and how many rollouts it holds.

    Args:
        config, shape, lengths, hardware: As in `size`.
    """
    engine = engine_memory(config, shape, lengths, hardware)
    return {
        "engine": str(engine),
        "rollouts": rollouts_at_a_time(config, shape, lengths, engine),
    }


def size(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware | None = None
) -> Sizing:
    """Count what the run will use, and say whether it fits.

    Args:
        config: The run; its device is `hardware`'s.
        shape: The model's.
        lengths: Of the sequences.
        hardware: Where it is to run; None: cannot be seen.
    """
    rank = rank_memory(config, shape, lengths.longest)
    facts = {"learner rank": str(rank)}
    engine = None
    if has_engines(config):
        engine = engine_memory(config, shape, lengths, hardware)
        facts |= engine_facts(config, shape, lengths, hardware)
        published = publication_bytes(config, shape)
        facts["publication"] = f"{published:,} bytes of {config.model.dtype}"
    problems: list[str] = []
    unchecked: list[str] = []
    if hardware is None:
        unchecked.append(
            f"memory: no {kind(config)} device can be seen from here; add --for, as in "
            f"--for {kind(config)}:8x80GiB"
        )
    elif hardware.device == "cpu":
        facts["memory"], problems = on_machines(config, shape, lengths, hardware)
    else:
        facts["devices"], problems = on_cards(config, shape, lengths, hardware)
        if rank.host:
            unchecked.append(f"host memory: {gib(rank.host)} for each learner rank")
    return Sizing(
        rank=rank,
        engine=engine,
        facts=facts,
        problems=tuple(problems),
        unchecked=tuple(unchecked),
    )

"""Settings that save memory, and which of them is enough, found by counting again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from deploy.sizing.engine_memory import kv_token_bytes
from deploy.sizing.hardware import Hardware
from deploy.sizing.memory import kind
from deploy.sizing.shape import Lengths, Shape
from oapl.config import RunConfig
from oapl.config.objective import has_engines

Change = tuple[str, Callable[[RunConfig], RunConfig]]


def learner_changes(
    config: RunConfig, lengths: Lengths, hardware: Hardware | None = None
) -> Iterator[Change]:
    """Yield settings that save the learner's memory, those that cost least first.

    Args:
        config: The run as it is.
        lengths: Of the sequences: no micro-batch is smaller than the longest.
        hardware: The cards, which more ranks may share out; None where all is main memory, of which
            neither more ranks nor offloading save any.
    """
    learner = config.learner
    if not learner.activation_checkpointing:
        yield _change("learner", "activation_checkpointing", True)
    smaller = learner.micro_batch_tokens // 2
    while smaller >= lengths.longest:
        yield _change("learner", "micro_batch_tokens", smaller)
        smaller //= 2
    if learner.zero_stage < 3 and learner.num_ranks > 1:
        yield _change("learner", "zero_stage", 3)
    if hardware is None:
        return
    if learner.offload == "none":
        yield _change("learner", "offload", "optimizer")
    ranks = 2 * learner.num_ranks
    while ranks < hardware.count:
        yield _change("learner", "num_ranks", ranks)
        ranks *= 2


def engine_changes(config: RunConfig, shape: Shape, lengths: Lengths) -> Iterator[Change]:
    """Yield settings that save an engine's memory.

    Args:
        config: The run as it is.
        shape: The model's.
        lengths: Of the sequences: the KV cache holds at least two of the longest.
    """
    if not has_engines(config):
        return
    if kind(config) == "cpu":
        smallest = kv_token_bytes(config, shape) * 2 * lengths.longest
        for key, value in (("max_num_seqs", 32), ("max_num_seqs", 8), ("kv_cache_bytes", smallest)):
            yield _option(key, value)
        return
    degree = config.rollout.tensor_parallel_size
    for larger in (2, 4, 8, 16):
        if larger > degree and not shape.heads % larger:
            yield _change("rollout", "tensor_parallel_size", larger)


def _change(section: str, key: str, value: Any) -> Change:
    def apply(config: RunConfig) -> RunConfig:
        changed = dataclasses.replace(getattr(config, section), **{key: value})
        return dataclasses.replace(config, **{section: changed})

    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{section}.{key} = {shown}", apply


def _option(key: str, value: Any) -> Change:
    def apply(config: RunConfig) -> RunConfig:
        options = {**config.rollout.engine_options, key: value}
        rollout = dataclasses.replace(config.rollout, engine_options=options)
        return dataclasses.replace(config, rollout=rollout)

    return f"rollout.engine_options.{key} = {value}", apply


def enough(
    config: RunConfig, fits: Callable[[RunConfig], bool], changes: Iterator[Change] | list[Change]
) -> str:
    """Find the first change that is enough alone, else the changes that are enough together.

    Args:
        config: The run as it is.
        fits: Whether a run with other settings would fit.
        changes: What to try, in order.

    Returns:
        What to set, in words.
    """
    changes = list(changes)
    for text, apply in changes:
        if fits(apply(config)):
            return f"set {text}"
    taken: dict[str, str] = {}  # a key's last change stands
    for text, apply in changes:
        config = apply(config)
        taken[text.partition(" = ")[0]] = text
        if fits(config):
            return f"set {' and '.join(taken.values())}"
    return "no setting is enough, so it takes more or larger devices, or a smaller model"

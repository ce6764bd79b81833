"""In which order rows are drawn, as the run's settings say, and what tells data from other data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from actors.data.difficulty import rate_of
from oapl.config import RunConfig
from oapl.records import Prompt, Rollout
from oapl.replay.layouts import Rows
from oapl.replay.order import DrawOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How rows are drawn.

    Attributes:
        seed: The run's.
        epochs: Passes over the data; 0 is without end.
        shuffle: Else rows come in their own order.
        weights: Per source its share of the draws; empty: each row once an epoch.
        easy_first: Sources whose rows come by falling pass rate.
    """

    seed: int
    epochs: int = 0
    shuffle: bool = True
    weights: Mapping[str, float] = field(default_factory=dict)
    easy_first: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: RunConfig) -> Drawing:
        """As a run's settings say."""
        return cls(
            seed=config.run.seed,
            epochs=config.data.epochs,
            shuffle=config.data.shuffle,
            weights=weights_of(config),
            easy_first=frozenset(
                source.name for source in config.data.sources if source.easy_first
            ),
        )


def weights_of(config: RunConfig) -> dict[str, float]:
    """The weights of `data.sources` by name; empty where they have none."""
    return {source.name: source.weight for source in config.data.sources if source.weight}


def order_of(
    prompts: Sequence[Prompt], drawing: Drawing, rollouts: Sequence[Rollout] = ()
) -> DrawOrder:
    """Make the order of draws.

    Args:
        prompts: Of one epoch, source by source, before they are drawn.
        drawing: How they are.
        rollouts: The responses to imitate, where there are any.

    Raises:
        InputError: A weight is so small that its source would not be drawn.
    """
    sources = list(_rows_of(prompts, drawing, rollouts))
    is_alone = len(sources) == 1 and not drawing.weights and not drawing.easy_first
    digest = sources[0].digest if is_alone else _digest_of_all(prompts, drawing, rollouts, sources)
    return DrawOrder(
        sources, digest, seed=drawing.seed, epochs=drawing.epochs, shuffle=drawing.shuffle
    )


def _rows_of(
    prompts: Sequence[Prompt], drawing: Drawing, rollouts: Sequence[Rollout]
) -> Iterator[Rows]:
    start = 0
    for name, group in groupby(prompts, key=lambda prompt: prompt.source):
        own = list(group)
        responses = rollouts[start : start + len(own)]
        start += len(own)
        digest, ease = digest_of(own, responses), None
        if name in drawing.easy_first:
            ease = np.array([_rate(prompt) for prompt in own])
            digest = hashlib.sha256(digest.encode() + ease.tobytes()).hexdigest()
        weight = drawing.weights.get(name, 0.0)
        yield Rows(name=name, size=len(own), digest=digest, weight=weight, ease=ease)


def _rate(prompt: Prompt) -> float:
    rate = rate_of(prompt.reference, prompt.id)
    assert rate is not None, "rows without a pass rate are not read where easy ones come first"
    return rate


def _digest_of_all(
    prompts: Sequence[Prompt],
    drawing: Drawing,
    rollouts: Sequence[Rollout],
    sources: Sequence[Rows],
) -> str:
    digest = digest_of(prompts, rollouts, drawing.weights)
    ordered = [source.digest for source in sources if source.ease is not None]
    if not ordered:
        return digest
    return hashlib.sha256("".join([digest, *ordered]).encode()).hexdigest()


def digest_of(
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout] = (),
    weights: Mapping[str, float] | None = None,
) -> str:
    """Tell data from other data: by rows, their order and their tokens, on which depends what a
    cursor's position means.

    Args:
        prompts: Of one epoch, before they are drawn.
        rollouts: The responses to imitate, where there are any.
        weights: Per source its share of the draws, where they have any.

    Returns:
        SHA-256, in hexadecimal.
    """
    made = hashlib.sha256()
    for prompt in prompts:
        made.update(prompt.id.encode() + b"\0" + prompt.token_ids.tobytes())
    for rollout in rollouts:
        made.update(rollout.token_ids.tobytes() + b"\0")
    for name, weight in (weights or {}).items():
        made.update(f"{name}={weight!r}\0".encode())
    return made.hexdigest()

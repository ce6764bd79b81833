"""What is trained and evaluated on, in order: streams of prompts and of examples.

`PromptStream` feeds the replay buffer (RL), `ExampleQueue` the learner (SFT), `read_prompts` an
evaluation; all write prompts by the same template. Invariants: the order of an epoch depends on the
run's seed, the epoch and the data alone; every row is drawn once per epoch; a stream restored in
mid-epoch goes on with the very next draw; an id, `source:index@epoch`, is drawn once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from actors.data.context import prompt_room
from actors.data.encoding import Encoded, RowCounts, encode, in_chunks
from actors.data.problems import Problem
from actors.data.sources import read_problems
from actors.data.templates import Template, choose
from oapl.batching import example
from oapl.config import RunConfig
from oapl.config.sections import DataSource
from oapl.errors import InputError
from oapl.records import (
    CreditedGroup,
    Metrics,
    Prompt,
    Rollout,
    State,
)
from oapl.replay.order import DrawOrder, layout_of


class PromptStream:
    """All sources in one order, by their sizes. See `oapl.interfaces.PromptSource`.

    Args:
        prompts: Of all sources; ids are `source:index`.
        seed: The run's.
        epochs: Passes over the prompts; 0 is without end.
        shuffle: Else the prompts come in their own order.
        weights: Per source its share of the draws; empty: each prompt once an epoch.
        counts: Per source, what was read, dropped and cut.
        done: Draws that were made before, and are left out.

    Attributes:
        counts: As given.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        epochs: int = 0,
        shuffle: bool = True,
        weights: Mapping[str, float] | None = None,
        counts: Mapping[str, RowCounts] | None = None,
        done: Collection[str] = (),
    ) -> None:
        self._done = done
        self._prompts = tuple(prompts)
        self._order = DrawOrder(
            digest_of(self._prompts, weights=weights),
            len(self._prompts),
            epochs=epochs,
            layout=layout_of(_sizes(prompts), weights or {}, seed=seed, shuffle=shuffle),
        )
        self.counts = dict(counts or {})

    def __len__(self) -> int:
        """Prompts of one epoch."""
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """The prompts of one epoch, source by source; nothing is drawn."""
        return iter(self._prompts)

    def next(self) -> Prompt | None:
        """Draw the next prompt."""
        while (drawn := self._order.next()) is not None:
            prompt = _drawn(self._prompts[drawn[0]], drawn[1])
            if prompt.id not in self._done:
                return prompt
        return None

    def state(self) -> State:
        """The cursor."""
        return self._order.state()

    def restore(self, state: State) -> None:
        """Go on after the draw at which `state` was taken."""
        self._order.restore(state)


class ExampleQueue:
    """Worked examples in the place of replay: `oapl.interfaces.Batches`.

    An example is a group of one rollout that nobody sampled: no log-probs, version 0, credit 1.

    Args:
        config: Names the sources and their columns.
        tokenizer: The model's.

    Attributes:
        counts: Per source, what was read, dropped and cut.
        digest: Of the examples; see `digest_of`.
    """

    def __init__(self, config: RunConfig, tokenizer: Any) -> None:
        examples, self.counts = _read_examples(config, tokenizer)
        self._examples = tuple(examples)
        weights = weights_of(config)
        self.digest = digest_of(self.prompts, [rollout for _, rollout in examples], weights)
        self._order = DrawOrder(
            self.digest,
            len(examples),
            epochs=config.data.epochs,
            layout=layout_of(
                _sizes(self.prompts), weights, seed=config.run.seed, shuffle=config.data.shuffle
            ),
        )

    def __len__(self) -> int:
        """Examples of one epoch."""
        return len(self._examples)

    @property
    def prompts(self) -> list[Prompt]:
        """Those of one epoch, before they are drawn."""
        return [prompt for prompt, _ in self._examples]

    def draw(self, count: int) -> list[CreditedGroup]:
        """Draw the next `count` examples; fewer at the end of the last epoch."""
        groups: list[CreditedGroup] = []
        while len(groups) < count and (drawn := self._order.next()) is not None:
            prompt, rollout = self._examples[drawn[0]]
            groups.append(example(_drawn(prompt, drawn[1]), rollout))
        return groups

    async def take(self, count: int, timeout_s: float) -> list[CreditedGroup] | None:
        """Give the next examples, the rest at the end, then None."""
        return self.draw(count) or None

    async def trained(self, ids: Sequence[str], step: int) -> None:
        """Do nothing: examples are not counted."""

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Do nothing: examples are not counted."""

    async def advance(self, step: int) -> None:
        """Do nothing: examples have no version."""

    async def lead(self, step: int, begin: int) -> bool:
        """Nobody generates, so there is nothing to lead with."""
        return False

    async def snapshot(self) -> State:
        """The cursor."""
        return self._order.state()

    async def restore(self, state: State) -> None:
        """Go on after a snapshot."""
        self._order.restore(state)

    async def finish(self) -> None:
        """Do nothing: nothing is in flight."""

    async def first_failure(self) -> str:
        """Nothing is drawn that could fail."""
        return ""

    async def stats(self) -> Metrics:
        """Report passes over the data so far."""
        return {"data/epoch": self._order.passes}


def build(config: RunConfig, tokenizer: Any, done: Collection[str] = ()) -> PromptStream:
    """Make the stream of `data.sources` for reinforcement learning, and for groups to be stored.

    Args:
        config: Names the sources, the template and what becomes of what is too long.
        tokenizer: The model's.
        done: Draws that were made before, and are left out.

    Raises:
        InputError: A source cannot be used, or there is none.
    """
    encoded = read_training(config, tokenizer)
    return PromptStream(
        [prompt for part in encoded.values() for prompt in part.prompts],
        seed=config.run.seed,
        epochs=config.data.epochs,
        shuffle=config.data.shuffle,
        weights=weights_of(config),
        counts={name: part.counts for name, part in encoded.items()},
        done=done,
    )


def read_training(config: RunConfig, tokenizer: Any) -> dict[str, Encoded]:
    """Read the prompts of `data.sources`, by the source's name.

    Args:
        config: Names them, and how they are written.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be used, or there is none.
    """
    return read_sources(_demand_sources(config), config, tokenizer, _room(config))


def read_prompts(sources: Sequence[DataSource], config: RunConfig, tokenizer: Any) -> list[Prompt]:
    """Read the prompts of evaluation sources, in their order, each once (`@0`).

    Args:
        sources: What to read.
        config: Says how prompts are written and how long they may be.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be used.
    """
    encoded = read_sources(sources, config, tokenizer, evaluation_room(config))
    return [_drawn(prompt, 0) for part in encoded.values() for prompt in part.prompts]


def read_sources(
    sources: Sequence[DataSource],
    config: RunConfig,
    tokenizer: Any,
    room: int,
    read: Callable[[DataSource], list[Problem]] = read_problems,
) -> dict[str, Encoded]:
    """Read the prompts of each source.

    Args:
        sources: What to read.
        config: Says how prompts are written and judged.
        tokenizer: The model's.
        room: Most tokens of a prompt.
        read: Gives the problems of a source.

    Returns:
        By the source's name.

    Raises:
        InputError: A source cannot be used.
    """
    return {
        source.name: encode(
            read(source),
            choose(config.data, tokenizer, source),
            room=room,
            overlong=config.data.overlong,
            verifiers=dict(source.verifiers or config.reward.verifiers),
        )
        for source in sources
    }


def evaluation_room(config: RunConfig) -> int:
    """Tokens that an evaluation prompt may have."""
    if config.eval.max_tokens:
        return prompt_room(config, "eval.max_tokens", config.eval.max_tokens)
    return _room(config)


def _room(config: RunConfig) -> int:
    return prompt_room(config, "rollout.max_tokens", config.rollout.max_tokens)


def _demand_sources(config: RunConfig) -> tuple[DataSource, ...]:
    if not config.data.sources:
        raise InputError(
            "data.sources is empty: there is nothing to train on; add a [[data.sources]] with a "
            "name and a path, dataset or task"
        )
    return config.data.sources


def _read_examples(
    config: RunConfig, tokenizer: Any
) -> tuple[list[tuple[Prompt, Rollout]], dict[str, RowCounts]]:
    """Every example that fits: its prompt as in RL, its response at most `rollout.max_tokens`."""

    def read(source: DataSource) -> list[Problem]:
        return read_problems(source, with_responses=True)

    sources, template = _demand_sources(config), choose(config.data, tokenizer)
    examples: list[tuple[Prompt, Rollout]] = []
    counts = {}
    for name, part in read_sources(sources, config, tokenizer, _room(config), read).items():
        rollouts = _imitated(part.problems, template, config)
        pairs = zip(part.prompts, rollouts, strict=True)
        kept = [(prompt, rollout) for prompt, rollout in pairs if rollout is not None]
        if not kept:
            raise InputError(
                f"source {name!r}: none of its responses fits in rollout.max_tokens "
                f"({config.rollout.max_tokens}); raise it"
            )
        examples += kept
        counts[name] = dataclasses.replace(
            part.counts,
            dropped=part.counts.read - len(kept),
            truncated=part.counts.truncated + sum(rollout.is_truncated for _, rollout in kept),
        )
    return examples, counts


def _imitated(
    problems: Sequence[Problem], template: Template, config: RunConfig
) -> list[Rollout | None]:
    """Responses as rollouts; None for one that is dropped as too long."""
    limit, overlong = config.rollout.max_tokens, config.data.overlong
    texts = [problem.response or "" for problem in problems]
    rollouts: list[Rollout | None] = []
    for problem, ids in zip(problems, in_chunks(template.encode_response, texts), strict=True):
        is_long = len(ids) > limit
        if is_long and overlong == "error":
            raise InputError(
                f"{problem.place}: the response has {len(ids)} tokens, more than "
                f"rollout.max_tokens ({limit}); raise it, or set data.overlong = "
                '"drop" or "truncate"'
            )
        if is_long and overlong == "drop":
            rollouts.append(None)
            continue
        rollouts.append(
            Rollout(
                token_ids=np.asarray(ids[:limit], dtype=np.int32),
                inference_logprobs=None,
                finish_reason="length" if is_long else "stop",
                text=problem.response or "",
                first_version=0,
                last_version=0,
            )
        )
    return rollouts


def _drawn(prompt: Prompt, epoch: int) -> Prompt:
    return dataclasses.replace(prompt, id=f"{prompt.id}@{epoch}")


def weights_of(config: RunConfig) -> dict[str, float]:
    """The weights of `data.sources` by name; empty where they have none."""
    return {source.name: source.weight for source in config.data.sources if source.weight}


def _sizes(prompts: Sequence[Prompt]) -> Mapping[str, int]:
    return Counter(prompt.source for prompt in prompts)


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

"""What is trained and evaluated on, in order: streams of prompts and of examples.

`PromptStream` feeds the replay buffer (RL), `ExampleQueue` the learner (SFT), `read_prompts` an
evaluation; all write prompts by the same template. Invariants: the order of an epoch depends on the
run's seed, the epoch and the data alone; every row is drawn once per epoch; a stream restored in
mid-epoch goes on with the very next draw; an id, `source:index@epoch`, is drawn once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from actors.data.encoding import Encoded, RowCounts, encode, in_chunks
from actors.data.order import DrawOrder
from actors.data.sources import Problem, read_problems
from actors.data.templates import Template, choose
from actors.data.tokenizer import prompt_room
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


class PromptStream:
    """See `oapl.interfaces.PromptSource`: all sources in one order, by their sizes.

    Attributes:
        counts: Per source, what was read, dropped and cut.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        epochs: int = 0,
        shuffle: bool = True,
        counts: Mapping[str, RowCounts] | None = None,
    ) -> None:
        self._prompts = tuple(prompts)
        self._order = DrawOrder(
            _digest(self._prompts), len(self._prompts), seed=seed, epochs=epochs, shuffle=shuffle
        )
        self.counts = dict(counts or {})

    def __len__(self) -> int:
        """Prompts of one epoch."""
        return len(self._prompts)

    def next(self) -> Prompt | None:
        drawn = self._order.next()
        return None if drawn is None else _drawn(self._prompts[drawn[0]], drawn[1])

    def state(self) -> State:
        return self._order.state()

    def restore(self, state: State) -> None:
        self._order.restore(state)


class ExampleQueue:
    """Worked examples in the place of replay: the learner's half of `oapl.interfaces.Replay`.

    An example is a group of one rollout that nobody sampled: no log-probs, version 0, credit 1.

    Attributes:
        counts: Per source, what was read, dropped and cut.
    """

    def __init__(self, config: RunConfig, tokenizer: Any) -> None:
        examples, self.counts = _read_examples(config, tokenizer)
        self._examples = tuple(examples)
        self._order = DrawOrder(
            _digest([prompt for prompt, _ in examples], [rollout for _, rollout in examples]),
            len(examples),
            seed=config.run.seed,
            epochs=config.data.epochs,
            shuffle=config.data.shuffle,
        )

    def __len__(self) -> int:
        """Examples of one epoch."""
        return len(self._examples)

    def draw(self, count: int) -> list[CreditedGroup]:
        """The next `count` examples; fewer at the end of the last epoch."""
        groups: list[CreditedGroup] = []
        while len(groups) < count and (drawn := self._order.next()) is not None:
            prompt, rollout = self._examples[drawn[0]]
            groups.append(example(_drawn(prompt, drawn[1]), rollout))
        return groups

    async def take(self, count: int, timeout_s: float) -> list[CreditedGroup] | None:
        """The next `count` examples, the rest at the end, then None."""
        return self.draw(count) or None

    async def trained(self, ids: Sequence[str], step: int) -> None: ...

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None: ...

    async def advance(self, step: int) -> None: ...

    async def lead(self, step: int, begin: int) -> bool:
        """Nobody generates, so there is nothing to lead with."""
        return False

    async def snapshot(self) -> State:
        return self._order.state()

    async def restore(self, state: State) -> None:
        self._order.restore(state)

    async def finish(self) -> None: ...

    async def stats(self) -> Metrics:
        return {"data/epoch": self._order.passes}


def build(config: RunConfig, tokenizer: Any) -> PromptStream:
    """The stream of `data.sources` for reinforcement learning.

    Raises:
        InputError: A source cannot be used, or there is none.
    """
    sources = _demand_sources(config)
    encoded = read_sources(sources, config, tokenizer, _room(config))
    return PromptStream(
        [prompt for part in encoded.values() for prompt in part.prompts],
        seed=config.run.seed,
        epochs=config.data.epochs,
        shuffle=config.data.shuffle,
        counts={name: part.counts for name, part in encoded.items()},
    )


def read_prompts(sources: Sequence[DataSource], config: RunConfig, tokenizer: Any) -> list[Prompt]:
    """The prompts of evaluation sources, in their order, each once (`@0`).

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
    """Per source its prompts of at most `room` tokens."""
    template = choose(config.data, tokenizer)
    return {
        source.name: encode(
            read(source),
            template,
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


def _digest(prompts: Sequence[Prompt], rollouts: Sequence[Rollout] = ()) -> str:
    """What a cursor's position means depends on the rows, their order and their tokens."""
    made = hashlib.sha256()
    for prompt in prompts:
        made.update(prompt.id.encode() + b"\0" + prompt.token_ids.tobytes())
    for rollout in rollouts:
        made.update(rollout.token_ids.tobytes() + b"\0")
    return made.hexdigest()

"""What is trained and evaluated on, in order: streams of prompts and of examples.

`PromptStream` feeds the replay buffer (RL), `ExampleQueue` the learner (SFT), `read_prompts` an
evaluation; all write prompts by the same template. Invariants: the order of an epoch depends on the
run's seed, the epoch and the data alone; every row is drawn once per epoch; a stream restored in
mid-epoch goes on with the very next draw; an id, `source:index@epoch`, is drawn once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from actors.data import difficulty
from actors.data.context import context_tokens, evaluation_context, prompt_room
from actors.data.encoding import Encoded, RowCounts, encode, in_chunks
from actors.data.endings import Endings
from actors.data.ordering import Drawing, order_of
from actors.data.problems import Problem
from actors.data.sources import read_all, sampled
from actors.data.templates import Template, choose
from oapl.batching import example
from oapl.config import RunConfig
from oapl.config.sections import DataSource, EvalSource
from oapl.errors import InputError
from oapl.records import (
    CreditedGroup,
    Metrics,
    Prompt,
    Rollout,
    State,
)
from oapl.sampling import protocol_of


class PromptStream:
    """All sources in one order, by their sizes. See `oapl.interfaces.PromptSource`.

    Args:
        prompts: Of all sources, one after the other; ids are `source:index`.
        drawing: In which order they are drawn.
        counts: Per source, what was read, dropped and cut.
        done: Draws that were made before, and are left out.

    Attributes:
        counts: As given.
        order: Of the draws, with the cursor.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        drawing: Drawing,
        *,
        counts: Mapping[str, RowCounts] | None = None,
        done: Collection[str] = (),
    ) -> None:
        self._done = done
        self._prompts = tuple(prompts)
        self.order = order_of(self._prompts, drawing)
        self.counts = dict(counts or {})

    def __len__(self) -> int:
        """Prompts of one epoch."""
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """The prompts of one epoch, source by source; nothing is drawn."""
        return iter(self._prompts)

    def next(self) -> Prompt | None:
        """Draw the next prompt."""
        while (drawn := self.order.next()) is not None:
            prompt = _drawn(self._prompts[drawn[0]], drawn[1])
            if prompt.id not in self._done:
                return prompt
        return None

    def state(self) -> State:
        """The cursor."""
        return self.order.state()

    def restore(self, state: State) -> None:
        """Go on after the draw at which `state` was taken."""
        self.order.restore(state)


class ExampleQueue:
    """Worked examples in the place of replay: `oapl.interfaces.Batches`.

    An example is a group of one rollout that nobody sampled: no log-probs, version 0, credit 1.

    Args:
        config: Names the sources and their columns.
        tokenizer: The model's.

    Attributes:
        counts: Per source, what was read, dropped and cut.
        order: Of the draws, with the cursor.
    """

    def __init__(self, config: RunConfig, tokenizer: Any) -> None:
        examples, self.counts = _read_examples(config, tokenizer)
        self._examples = tuple(examples)
        rollouts = [rollout for _, rollout in examples]
        self.order = order_of(self.prompts, Drawing.of(config), rollouts)

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
        while len(groups) < count and (drawn := self.order.next()) is not None:
            prompt, rollout = self._examples[drawn[0]]
            groups.append(example(_drawn(prompt, drawn[1]), rollout))
        return groups

    async def take(
        self, count: int, timeout_s: float, ahead: int = 0
    ) -> list[CreditedGroup] | None:
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
        return self.order.state()

    async def restore(self, state: State) -> None:
        """Go on after a snapshot."""
        self.order.restore(state)

    async def take_over(self, state: State) -> bool:
        """Go on after the snapshot of an ended stage, if it had the same examples."""
        return self.order.take_over(state)

    async def finish(self) -> None:
        """Do nothing: nothing is in flight."""

    async def first_failure(self) -> str:
        """Nothing is drawn that could fail."""
        return ""

    async def stats(self) -> Metrics:
        """Report passes over the data so far."""
        return {"data/epoch": self.order.passes}


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
        Drawing.of(config),
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


def read_prompts(sources: Sequence[EvalSource], config: RunConfig, tokenizer: Any) -> list[Prompt]:
    """Read the prompts of evaluation sources, in their order, each once (`@0`).

    Args:
        sources: What to read.
        config: Says how prompts are written and how long they may be.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be used.
    """
    encoded = read_evaluated(sources, config, tokenizer)
    return [_drawn(prompt, 0) for part in encoded.values() for prompt in part.prompts]


def read_evaluated(
    sources: Sequence[EvalSource], config: RunConfig, tokenizer: Any
) -> dict[str, Encoded]:
    """Read the prompts of evaluation sources, by the source's name; each has its own room.

    Args:
        sources: What to read.
        config: Says how prompts are written and how long they may be.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be used.
    """
    encoded: dict[str, Encoded] = {}
    for source in sources:
        room = evaluation_room(config, source)
        encoded |= read_sources((source,), config, tokenizer, room)
    return encoded


def read_sources(
    sources: Sequence[DataSource],
    config: RunConfig,
    tokenizer: Any,
    room: int,
    with_responses: bool = False,
) -> dict[str, Encoded]:
    """Read the prompts of each source.

    Args:
        sources: What to read.
        config: Says how prompts are written and judged.
        tokenizer: The model's.
        room: Most tokens of a prompt.
        with_responses: Read responses to imitate, too.

    Returns:
        By the source's name.

    Raises:
        InputError: A source cannot be used.
    """
    encoded = {}
    for source in sources:
        every = read_all(source, with_responses)
        rated = difficulty.chosen(source, every)
        encoded[source.name] = encode(
            sampled(source, rated),
            choose(config.data, tokenizer, source),
            room=room,
            overlong=config.data.overlong,
            verifiers=dict(source.verifiers or config.reward.verifiers),
            unrated=len(every) - len(rated),
        )
    return encoded


def evaluation_room(config: RunConfig, source: EvalSource) -> int:
    """Tokens that a prompt of an evaluation set may have.

    Args:
        config: The run.
        source: The set.

    Raises:
        InputError: Its longest response leaves it none.
    """
    max_tokens = protocol_of(config, source).sampling.max_tokens
    key = "rollout.max_tokens"
    if source.protocol or source.answers.get("max_tokens"):
        key = f"max_tokens of set {source.name!r}"
    elif config.eval.max_tokens:
        key = "eval.max_tokens"
    return prompt_room(evaluation_context(config), key, max_tokens)


def _room(config: RunConfig) -> int:
    return prompt_room(context_tokens(config), "rollout.max_tokens", config.rollout.max_tokens)


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

    sources = _demand_sources(config)
    templates = {source.name: choose(config.data, tokenizer, source) for source in sources}
    examples: list[tuple[Prompt, Rollout]] = []
    counts = {}
    for name, part in read_sources(sources, config, tokenizer, _room(config), True).items():
        rollouts = _imitated(part.problems, templates[name], config)
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
    texts, endings = [problem.response or "" for problem in problems], Endings(template, config)
    rollouts: list[Rollout | None] = []
    for problem, said in zip(problems, in_chunks(template.encode_response, texts), strict=True):
        try:
            ids = endings.closed(said)
        except ValueError as error:
            raise InputError(f"{problem.place}: the response {error}") from error
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

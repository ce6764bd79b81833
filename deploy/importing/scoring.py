"""Log-probs of imported responses, by an engine in this process with the model's weights on disk.

They are ln pi of the model at temperature 1, of given tokens; nobody sampled these from it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol

import numpy as np

from actors.engines.base import ENGINES
from deploy.processes.roles import environment
from oapl.config import RunConfig
from oapl.devices.base import engine_name
from oapl.errors import EngineError, InputError
from oapl.groups_file import StoredGroup
from oapl.interfaces import Engine
from oapl.records import Rollout
from oapl.weights import local

TOKENS_PER_CALL = 2**16
"""Tokens that the engine is given at a time, prompts included; one group may have more."""


class Scorer(Protocol):
    """What gives groups their log-probs."""

    def __call__(self, groups: Sequence[StoredGroup]) -> list[StoredGroup]:
        """Give the same groups with log-probs."""


def set_environment(config: RunConfig) -> None:
    """Set what must be in the environment before torch and the engine's library are imported.

    Args:
        config: Names device and engine.
    """
    for key, value in environment(config, "worker").items():
        os.environ.setdefault(key, value)


class EngineScorer:
    """A scorer with an engine of its own; a context manager, which ends it.

    Args:
        config: Names model and engine.

    Raises:
        InputError: The engine cannot be set up like that, or does not serve the model.
        EngineError: It did not start.
    """

    def __init__(self, config: RunConfig) -> None:
        name = engine_name(config)
        file = ENGINES.load(name, "rollout.engine")
        if problems := list(file.problems(config)):
            raise InputError("\n".join(problems))
        set_environment(config)
        self._engine: Engine = file.build(
            config, receiver=local.build_receiver(config), index=0, incarnation=0, step=0
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> EngineScorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._engine.close()
        self._runner.close()

    def __call__(self, groups: Sequence[StoredGroup]) -> list[StoredGroup]:
        """Give the same groups with log-probs.

        Raises:
            EngineError: It failed, or gave a number that is not finite.
        """
        sequences = [
            np.concatenate([group.prompt.token_ids, rollout.token_ids])
            for group in groups
            for rollout in group.rollouts
        ]
        scores = iter(self._runner.run(self._engine.score(sequences)))
        return [
            replace(group, rollouts=tuple(_scored(one, next(scores)) for one in group.rollouts))
            for group in groups
        ]


def _scored(rollout: Rollout, scores: np.ndarray) -> Rollout:
    """The rollout with the last of the scores, those of its own tokens."""
    logprobs = scores[-len(rollout.token_ids) :]
    if len(logprobs) < len(rollout.token_ids) or not np.isfinite(logprobs).all():
        raise EngineError(
            "the engine scored a response with a number that is not finite, or in part; try "
            "model.dtype=float32"
        )
    return replace(rollout, inference_logprobs=logprobs)


def scored(groups: Iterable[StoredGroup], scorer: Scorer) -> Iterator[StoredGroup]:
    """Score groups, some at a time.

    Args:
        groups: Without log-probs.
        scorer: Gives them.
    """
    held: list[StoredGroup] = []
    tokens = 0
    for group in groups:
        held.append(group)
        tokens += sum(len(group.prompt.token_ids) + len(one.token_ids) for one in group.rollouts)
        if tokens >= TOKENS_PER_CALL:
            yield from scorer(held)
            held, tokens = [], 0
    if held:
        yield from scorer(held)

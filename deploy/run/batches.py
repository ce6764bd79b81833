"""What the learner takes from, composed: the replay buffer, examples, or a stored set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from actors.data import prompts
from actors.data.tokenizer import load_tokenizer, spare_torch
from deploy.checks.stored import is_of_the_model
from oapl import groups_file
from oapl.config import RunConfig
from oapl.config.objective import source_of
from oapl.groups_file import Logprobs, StoredGroup
from oapl.interfaces import Batches, Objective
from oapl.objectives import base as objectives
from oapl.records import Credit, CreditedGroup, ScoredGroup
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from oapl.replay.stored import StoredBatches, credited

UNLOADED = -1
"""The version of an engine that holds the model's own weights."""


def build_replay_alone(config: RunConfig, *, done: frozenset[str] | None = None) -> ReplayBuffer:
    """The same in a process of its own, which runs no model; see `build_replay`."""
    if not config.model.trust_remote_code:  # a model's own code may want all of transformers
        spare_torch()
    return build_replay(config, done=done)


def build_replay(config: RunConfig, *, done: frozenset[str] | None = None) -> ReplayBuffer:
    """Compose the replay buffer, in its own process, of prompts and the objective's credit.

    Args:
        config: The run.
        done: Where groups are only stored: draws that have been, and are not made again.
    """
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    if done is not None:
        return _passing_on(config, prompts.build(config, tokenizer, done))
    objective = _objective(config)
    return ReplayBuffer(
        prompts.build(config, tokenizer),
        objective.credit,
        PeriodNeeds.of(config, objective.declares.history),
        seed=config.run.seed,
    )


def _passing_on(config: RunConfig, source: prompts.PromptStream) -> ReplayBuffer:
    """A buffer for groups that nobody trains on: one period, longer than the data, of the weights
    that engines begin with."""
    beyond = len(source) * config.data.epochs + 1
    periods = PeriodNeeds(
        groups_per_step=1,
        interval=beyond,
        max_steps=beyond,
        capacity=config.replay.capacity,
        group_size=config.rollout.group_size,
        max_deaths=config.rollout.max_deaths,
    )
    return ReplayBuffer(source, _uncredited, periods, version=UNLOADED)


def _uncredited(group: ScoredGroup) -> Credit:
    return Credit(values=np.zeros(len(group.rewards), np.float32))


def build_given(config: RunConfig) -> Batches:
    """Read what is not generated in this run: stored sets, or responses to imitate.

    Raises:
        InputError: It cannot be read, or the objective drops all groups.
    """
    if source_of(config) == "stored":
        return build_stored(config)
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    return prompts.ExampleQueue(config, tokenizer)


def build_stored(config: RunConfig) -> StoredBatches:
    """Read the stored sets, and credit their groups.

    Raises:
        InputError: One is damaged, or the objective drops all groups.
    """
    return StoredBatches(
        list(_stored(config, _objective(config).credit)),
        seed=config.run.seed,
        epochs=config.data.epochs,
        shuffle=config.data.shuffle,
    )


def logprobs_of(config: RunConfig) -> Logprobs | None:
    """How the log-probs of what a run trains on come about: None where there are none, or not of
    all stored groups."""
    source = source_of(config)
    if source != "stored":
        return "sampled" if source == "live" else None
    found = {groups_file.header(Path(folder)).logprobs for folder in config.replay.path}
    if None in found:
        return None
    return "scored" if "scored" in found else "sampled"


def _stored(config: RunConfig, credit: Callable[[ScoredGroup], Credit]) -> Iterator[CreditedGroup]:
    has_logprobs = logprobs_of(config) is not None
    for folder in map(Path, config.replay.path):
        is_own = is_of_the_model(config, groups_file.header(folder))
        for group in groups_file.read(folder):
            kept = group if has_logprobs else _without_logprobs(group)
            yield credited(kept, credit, model=is_own)


def _without_logprobs(group: StoredGroup) -> StoredGroup:
    rollouts = tuple(replace(rollout, inference_logprobs=None) for rollout in group.rollouts)
    return replace(group, rollouts=rollouts)


def _objective(config: RunConfig) -> Objective:
    objective = objectives.build(config.objective)
    is_shuffled = config.reward.control == "shuffle"
    return objectives.shuffled(objective, config.run.seed) if is_shuffled else objective

"""What a run is made of: the learner, what it takes from, and the engines if there are any.

Everything starts at once. Invariant: nothing is generated and nothing trained before each verifier
was tried; one that does not work ends the starts of the others as it is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from actors.data import fingerprints, prompts
from actors.data.tokenizer import load_tokenizer
from deploy.processes.launch import Process, Processes
from deploy.run import restarts, reward_servers
from deploy.run.attempts import Attempts
from deploy.run.evaluation import Evaluator
from deploy.run.pulse import Pulse
from deploy.run.reward_servers import RewardServers
from deploy.run.workers import Workers
from learner.group import LearnerGroup
from oapl.config import RunConfig
from oapl.config.objective import takes_examples
from oapl.groups_file import Logprobs
from oapl.interfaces import Batches, Replay, Tracker
from oapl.loops import Outlast
from oapl.records import Prompt
from oapl.remote.waiting import both, in_thread_of_its_own
from oapl.tracking.rollouts import RolloutStore


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of a run.

    Attributes:
        learner: Makes the steps.
        replay: What it takes from.
        pulse: Knows who still answers.
        workers: None where nothing is sampled.
        rewards: None where nothing is judged.
        evaluator: None without evaluation sets.
    """

    learner: LearnerGroup
    replay: Batches
    pulse: Pulse
    workers: Workers | None = None
    rewards: RewardServers | None = None
    evaluator: Evaluator | None = None

    @property
    def failures(self) -> list[asyncio.Future[None]]:
        """Are set to an exception when the run cannot go on, whatever it waits for."""
        parts = (self.pulse, self.workers, self.rewards)
        return [part.failed for part in parts if part is not None]

    @property
    def outlast(self) -> Outlast | None:
        """What makes the learner wait longer while workers are being replaced."""
        return None if self.workers is None else self.workers.outlast

    async def close(self) -> None:
        """Watch nobody any more, and leave nothing running here; others end the processes."""
        await self.pulse.close()
        if self.workers is not None:
            await self.workers.close()
        if self.rewards is not None:
            await self.rewards.close()
        await self.learner.close()


async def start(
    config: RunConfig, processes: Processes, tracker: Tracker, attempts: Attempts
) -> Parts:
    """Start everything that a training run needs.

    Args:
        config: The run.
        processes: Starts and ends its processes.
        tracker: Takes what the run tells of itself.
        attempts: Of which this is one.
    """
    pulse = Pulse(processes, tracker.message, config.cluster.start_timeout_s)
    if takes_examples(config):
        return await _imitation(config, processes, tracker, pulse)
    return await _reinforcement(config, processes, tracker, pulse, attempts)


async def _reinforcement(
    config: RunConfig, processes: Processes, tracker: Tracker, pulse: Pulse, attempts: Attempts
) -> Parts:
    tracker.message("starting replay, reward server, learner and rollout workers")
    async with contextlib.AsyncExitStack() as if_it_fails:
        if_it_fails.push_async_callback(pulse.close)
        sampling = _sampling(config, processes, tracker, pulse, attempts, if_it_fails)
        starting = both(sampling, processes.start_ranks())
        loading = in_thread_of_its_own(partial(_tokenizer, config))
        ((replay, rewards, workers), trainers), tokenizer = await both(starting, loading)
        pulse.keep(replay, rewards.processes)
        evaluator = Evaluator(config, workers) if config.eval.sources else None
        learner = LearnerGroup(
            config,
            trainers=[trainer.handle for trainer in trainers],
            replay=replay.handle,
            tracker=tracker,
            store=_store(config, tokenizer, tracker, logprobs="sampled"),
            engines=workers,
            rewards=rewards,
            evaluate=evaluator,
        )
        if_it_fails.pop_all()
    return Parts(
        learner=learner,
        replay=replay.handle,
        pulse=pulse,
        workers=workers,
        rewards=rewards,
        evaluator=evaluator,
    )


async def _sampling(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    pulse: Pulse,
    attempts: Attempts,
    if_it_fails: contextlib.AsyncExitStack,
) -> tuple[Process[Replay], RewardServers, Workers]:
    """Start what makes batches; the engines load while verifiers are tried."""
    replay, rewards = await both(
        processes.start("replay", "replay"),
        reward_servers.start(config, processes, tracker.message),
    )
    if_it_fails.push_async_callback(rewards.close)
    workers = Workers(
        config,
        processes=processes,
        pulse=pulse,
        restarts=restarts.of_a_worker(config),
        replay=replay.handle,
        scorers=rewards.servers,
        note=tracker.message,
        step=attempts.step,
    )
    if_it_fails.push_async_callback(workers.close)
    workers.start()
    await rewards.try_out(config, attempts.trials)
    return replay, rewards, workers


async def start_idle(
    config: RunConfig, processes: Processes, tracker: Tracker, trials: Sequence[Prompt]
) -> tuple[Workers, RewardServers, Pulse]:
    """Start what an evaluation alone needs: workers with the model's own weights, and rewards.

    Args:
        config: The run.
        processes: Starts and ends its processes.
        tracker: Takes what it tells of itself.
        trials: Prompts to try each verifier on.
    """
    pulse = Pulse(processes, tracker.message, config.cluster.start_timeout_s)
    rewards = await reward_servers.start(config, processes, tracker.message)
    workers = Workers(
        config,
        processes=processes,
        pulse=pulse,
        restarts=restarts.of_a_worker(config),
        replay=None,
        scorers=rewards.servers,
        note=tracker.message,
    )
    async with contextlib.AsyncExitStack() as if_it_fails:
        if_it_fails.push_async_callback(rewards.close)
        if_it_fails.push_async_callback(workers.close)
        await both(workers.start_idle(), rewards.try_out(config, trials))
        if_it_fails.pop_all()
    pulse.keep(rewards=rewards.processes)
    return workers, rewards, pulse


async def _imitation(
    config: RunConfig, processes: Processes, tracker: Tracker, pulse: Pulse
) -> Parts:
    tokenizer = _tokenizer(config)
    examples = prompts.ExampleQueue(config, tokenizer)
    trainers = await processes.start_ranks()
    pulse.keep()
    learner = LearnerGroup(
        config,
        trainers=[trainer.handle for trainer in trainers],
        replay=examples,
        tracker=tracker,
        store=_store(config, tokenizer, tracker, logprobs=None),
    )
    return Parts(learner=learner, replay=examples, pulse=pulse)


def _tokenizer(config: RunConfig) -> Any:
    return load_tokenizer(config.model.path, config.model.trust_remote_code)


def _store(
    config: RunConfig, tokenizer: Any, tracker: Tracker, *, logprobs: Logprobs | None
) -> RolloutStore:
    header = fingerprints.header_of(config, tokenizer, made_by="train", logprobs=logprobs)
    return RolloutStore(config, config.folder, header, tracker.rollouts)

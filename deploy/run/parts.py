"""What a run is made of: the learner, what it takes from, and the engines if there are any.

Everything starts at once. Invariant: nothing is generated and nothing trained before each verifier
was tried; one that does not work ends the starts of the others as it is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from actors.data import fingerprints
from actors.data.tokenizer import load_tokenizer
from deploy.checks.evaluation import how_evaluated
from deploy.processes.launch import Process, Processes
from deploy.run import restarts, reward_servers
from deploy.run.attempts import Attempts
from deploy.run.batches import build_given, logprobs_of
from deploy.run.evaluation import Evaluator
from deploy.run.pulse import Pulse
from deploy.run.reward_servers import RewardServers
from deploy.run.workers import Workers
from learner.books import Past
from learner.evaluations import Running
from learner.group import LearnerGroup
from learner.moving_on import MovingOn
from oapl import accounting
from oapl.config import RunConfig
from oapl.config.objective import has_engines, samples
from oapl.interfaces import Batches, Replay, Tracker
from oapl.loops import Outlast
from oapl.records import Metrics, Prompt
from oapl.remote.waiting import both, in_thread_of_its_own
from oapl.replay.stored import StoredBatches
from oapl.tracking import history
from oapl.tracking.rollouts import RolloutStore


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of a run.

    Attributes:
        learner: Makes the steps.
        replay: What it takes from.
        pulse: Knows who still answers.
        workers: None where nothing is sampled or evaluated.
        aside: Those that evaluate beside training; None where none are set aside.
        rewards: None where nothing is judged.
        evaluator: None without evaluation sets.
        moving: Says when a stage ends early; None where the run has none.
        ended: Why nothing is left to do, once training has ended; empty where something is.
    """

    learner: LearnerGroup
    replay: Batches
    pulse: Pulse
    workers: Workers | None = None
    aside: Workers | None = None
    rewards: RewardServers | None = None
    evaluator: Evaluator | None = None
    moving: MovingOn | None = None
    ended: str = ""

    @property
    def failures(self) -> list[asyncio.Future[None]]:
        """Are set to an exception when the run cannot go on, whatever it waits for."""
        parts = (self.pulse, self.workers, self.aside, self.rewards)
        return [part.failed for part in parts if part is not None]

    @property
    def outlast(self) -> Outlast | None:
        """What makes the learner wait longer while workers are being replaced."""
        return None if self.workers is None else self.workers.outlast

    async def close(self) -> None:
        """Watch nobody any more, and leave nothing running here; others end the processes."""
        await self.pulse.close()
        for workers in (self.workers, self.aside):
            if workers is not None:
                await workers.close()
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
    leg = attempts.leg
    pulse = Pulse(processes, tracker.message, config.cluster.start_timeout_s)
    if samples(config):
        tracker.message("starting replay, reward server, learner and rollout workers")
    async with contextlib.AsyncExitStack() as if_it_fails:
        if_it_fails.push_async_callback(pulse.close)
        given: Batches | None = None
        if not samples(config):
            given = await in_thread_of_its_own(partial(build_given, config))
        starting = _making(
            config,
            processes,
            tracker,
            pulse,
            if_it_fails,
            trials=attempts.trials,
            step=leg.noise(attempts.step - leg.first),
        )
        loading = in_thread_of_its_own(partial(_tokenizer, config))
        (making, trainers), tokenizer = await both(both(starting, processes.start_ranks()), loading)
        workers, rewards, buffer = making.workers, making.rewards, making.buffer
        replay = cast(Batches, given if buffer is None else buffer.handle)
        pulse.keep(buffer, () if rewards is None else rewards.processes)
        evaluator, answering = None, making.aside or workers
        if answering is not None and config.eval.sources:
            evaluator = Evaluator(config, answering, stores=config.eval.store_groups)
        if config.eval.is_in_mid_run:
            tracker.message(f"evaluations are made {how_evaluated(config)}")
        moving = None
        if leg.place is not None:
            moving = MovingOn(leg.place.name, leg.patience, config.folder)
        learner = LearnerGroup(
            config,
            trainers=[trainer.handle for trainer in trainers],
            replay=replay,
            tracker=tracker,
            store=_store(config, tokenizer, tracker),
            engines=workers,
            rewards=rewards,
            evaluate=evaluator,
            aside=Running() if config.eval.slots else making.aside,
            evaluate_beside=_beside_rollouts(config, evaluator),
            foresee=given.foresee if isinstance(given, StoredBatches) else None,
            first=leg.first,
            moving=moving,
            keeps_in=config.folder / leg.folder,
            past=_past(config, attempts),
        )
        if_it_fails.pop_all()
    return Parts(
        learner=learner,
        replay=replay,
        pulse=pulse,
        workers=workers,
        aside=making.aside,
        rewards=rewards,
        evaluator=evaluator,
        moving=moving,
    )


def _beside_rollouts(
    config: RunConfig, evaluator: Evaluator | None
) -> Callable[[str], Awaitable[Metrics]] | None:
    """An evaluation in a share of what engines have in flight; None where there is none such."""
    if evaluator is None or not config.eval.slots:
        return None
    in_flight = config.rollout.max_groups_in_flight * config.rollout.group_size
    return partial(evaluator, slots=max(1, round(config.eval.slots * in_flight)))


@dataclass(slots=True, kw_only=True)
class Making:
    """What makes groups and judges them.

    Attributes:
        workers, aside, rewards: As in `Parts`.
        buffer: Hands out prompts and takes groups; None where engines only evaluate.
    """

    workers: Workers | None = None
    aside: Workers | None = None
    rewards: RewardServers | None = None
    buffer: Process[Replay] | None = None


async def _making(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    pulse: Pulse,
    if_it_fails: contextlib.AsyncExitStack,
    *,
    trials: Sequence[Prompt],
    step: int,
    done: frozenset[str] | None = None,
) -> Making:
    """Start it: without a buffer where engines only evaluate, nothing where they do not even that.
    The engines load while verifiers are tried."""
    if not has_engines(config):
        return Making()
    buffer, rewards = await both(
        _buffer(config, processes, done), reward_servers.start(config, processes, tracker.message)
    )
    if_it_fails.push_async_callback(rewards.close)
    make = partial(
        Workers,
        config,
        processes=processes,
        pulse=pulse,
        restarts=restarts.of_a_worker(config),
        scorers=rewards.servers,
        note=tracker.message,
        step=step,
    )
    every = range(config.rollout.num_engines)
    first = config.num_collecting if done is None else len(every)
    workers, aside = None, None
    if every[:first]:
        replay = None if buffer is None else buffer.handle
        workers = make(replay=replay, has_own_weights=done is not None, places=every[:first])
    if every[first:]:
        aside = make(replay=None, places=every[first:], is_aside=True)
    for made in filter(None, (workers, aside)):
        if_it_fails.push_async_callback(made.close)
        made.start()
    await rewards.try_out(config, trials)
    return Making(workers=workers, aside=aside, rewards=rewards, buffer=buffer)


async def _buffer(
    config: RunConfig, processes: Processes, done: frozenset[str] | None
) -> Process[Replay] | None:
    if not samples(config):
        return None
    if done is None:
        return await processes.start("replay", "replay")
    return await processes.start("replay", "replay", done=done)


async def start_making(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    trials: Sequence[Prompt],
    done: frozenset[str],
    step: int,
) -> tuple[Making, Pulse]:
    """Start what makes groups with the model's own weights, for nobody to train on.

    Args:
        config: The run.
        processes: Starts and ends its processes.
        tracker: Takes what it tells of itself.
        trials: Prompts to try each verifier on.
        done: Draws that have been, and are not made again.
        step: That the engines' seeds are made of.
    """
    pulse = Pulse(processes, tracker.message, config.cluster.start_timeout_s)
    tracker.message("starting prompt queue, reward server and rollout workers")
    async with contextlib.AsyncExitStack() as if_it_fails:
        if_it_fails.push_async_callback(pulse.close)
        making = await _making(
            config,
            processes,
            tracker,
            pulse,
            if_it_fails,
            trials=trials,
            step=step,
            done=done,
        )
        pulse.keep(making.buffer, making.rewards.processes if making.rewards else ())
        if_it_fails.pop_all()
    return making, pulse


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


def _past(config: RunConfig, attempts: Attempts) -> Past:
    baseline = config.tracking.baseline
    lengths = Path(baseline).expanduser() if baseline else None
    return Past(
        rows=[*history.rows(config.folder)],
        lost=[*history.lost_rows(config.folder)],
        lengths=history.by_step(lengths, "rollout/length_mean") if lengths else {},
        state=accounting.RESTART if attempts.failures else accounting.START,
        since=attempts.since,
    )


def _tokenizer(config: RunConfig) -> Any:
    return load_tokenizer(config.model.path, config.model.trust_remote_code)


def _store(config: RunConfig, tokenizer: Any, tracker: Tracker) -> RolloutStore:
    header = fingerprints.header_of(
        config, tokenizer, made_by="train", logprobs=logprobs_of(config)
    )
    return RolloutStore(config, config.folder, header, tracker.rollouts)

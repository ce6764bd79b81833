"""What a run is made of: the learner, what it takes from, and the engines if there are any.

Everything starts at once. Invariant: nothing is generated and nothing trained before each verifier
was tried; one that does not work ends the starts of the others as it is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from actors.data import fingerprints
from actors.data.tokenizer import load_tokenizer
from deploy.checks.evaluation import how_evaluated
from deploy.processes.base import Process, Processes
from deploy.run import reward_servers
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
from learner.surroundings import Evaluators, Stage, Surroundings
from oapl import accounting
from oapl.config import RunConfig
from oapl.config.objective import has_engines, samples
from oapl.interfaces import Batches, Replay, Tracker, Trainer
from oapl.loops import Outlast
from oapl.records import Metrics, Prompt
from oapl.remote.waiting import both, in_thread_of_its_own
from oapl.replay.stored import StoredBatches
from oapl.tracking import history
from oapl.tracking.restarts import Record, RestartLog
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
        return None if self.workers is None else self.workers.await_batch

    async def close(self) -> None:
        """Watch nobody any more, and leave nothing running here; others end the processes."""
        await self.pulse.close()
        for workers in (self.workers, self.aside):
            if workers is not None:
                await workers.close()
        if self.rewards is not None:
            await self.rewards.close()
        await self.learner.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What it takes to start what makes groups.

    Attributes:
        config: The run.
        processes: Starts and ends its processes.
        tracker: Takes what it tells of itself.
        trials: Prompts to try each verifier on.
        record: Takes note of what is started again.
        pulse: Asks who still answers.
        if_it_fails: Is given what then has to be closed.
        step: That the engines' seeds are made of.
        done: Draws that have been, and are not made again, where nobody trains on what is made;
            None in training.
    """

    config: RunConfig
    processes: Processes
    tracker: Tracker
    trials: Sequence[Prompt]
    record: Record
    pulse: Pulse
    if_it_fails: contextlib.AsyncExitStack
    step: int = 0
    done: frozenset[str] | None = None

    async def rewards(self) -> RewardServers:
        """Start the reward servers."""
        note = self.tracker.message
        rewards = await reward_servers.start(self.config, self.processes, note, self.pulse.restarts)
        self.if_it_fails.push_async_callback(rewards.close)
        return rewards

    def workers(
        self,
        rewards: RewardServers,
        replay: Replay | None,
        places: range | None = None,
        *,
        has_own_weights: bool = False,
        is_aside: bool = False,
    ) -> Workers:
        """Make workers; they are not started yet.

        Args:
            rewards: Judge for them.
            replay, places, has_own_weights, is_aside: As of `Workers`.
        """
        made = Workers(
            self.config,
            processes=self.processes,
            pulse=self.pulse,
            scorers=rewards.servers,
            note=self.tracker.message,
            record=self.record,
            step=self.step,
            replay=replay,
            places=places,
            has_own_weights=has_own_weights,
            is_aside=is_aside,
        )
        self.if_it_fails.push_async_callback(made.close)
        return made

    def watch(self, rewards: RewardServers | None, buffer: Process[Replay] | None = None) -> None:
        """Ask them from now on whether they answer."""
        judges = rewards.processes if rewards else ()
        self.pulse.keep(buffer, judges, self.config.restarts.reward_server)


@contextlib.asynccontextmanager
async def _starting(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    trials: Sequence[Prompt],
    step: int = 0,
    done: frozenset[str] | None = None,
) -> AsyncIterator[_Start]:
    """What is started within the block is closed where that fails.

    Args:
        config, processes, tracker, trials, step, done: As of `_Start`.
    """
    record = RestartLog(config.folder).add
    start_s = config.cluster.start_timeout_s
    pulse = Pulse(processes, tracker.message, start_s, record, config.folder)
    async with contextlib.AsyncExitStack() as if_it_fails:
        if_it_fails.push_async_callback(pulse.close)
        yield _Start(
            config=config,
            processes=processes,
            tracker=tracker,
            trials=trials,
            record=record,
            pulse=pulse,
            if_it_fails=if_it_fails,
            step=step,
            done=done,
        )
        if_it_fails.pop_all()


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
    if samples(config):
        tracker.message("starting replay, reward server, learner and rollout workers")
    noise = leg.noise(attempts.step - leg.first)
    async with _starting(config, processes, tracker, attempts.trials, step=noise) as start:
        given: Batches | None = None
        if not samples(config):
            given = await in_thread_of_its_own(partial(build_given, config))
        starting = both(_making(start), processes.start_ranks())
        loading = in_thread_of_its_own(partial(_tokenizer, config))
        (making, ranks), tokenizer = await both(starting, loading)
        start.watch(making.rewards, making.buffer)
        store = _store(config, tokenizer, tracker)
        trainers = [rank.handle for rank in ranks]
        return _put_together(start, attempts, making, given, trainers, store)


def _put_together(
    start: _Start,
    attempts: Attempts,
    making: Making,
    given: Batches | None,
    trainers: Sequence[Trainer],
    store: RolloutStore,
) -> Parts:
    """The learner among what was started."""
    config, leg = start.config, attempts.leg
    evaluator = _evaluator(config, making, start.tracker)
    around = Surroundings(
        replay=cast(Batches, given if making.buffer is None else making.buffer.handle),
        tracker=start.tracker,
        store=store,
        engines=making.workers,
        rewards=making.rewards,
        evaluators=Evaluators(
            waited=evaluator,
            beside=_beside_rollouts(config, evaluator),
            aside=Running() if config.eval.slots else making.aside,
        ),
        foresee=given.foresee if isinstance(given, StoredBatches) else None,
    )
    stage = Stage(
        first=leg.first,
        moving=MovingOn(leg.place.name, leg.patience, config.folder) if leg.place else None,
        keeps_in=config.folder / leg.folder,
        past=_past(config, attempts),
    )
    return Parts(
        learner=LearnerGroup(config, trainers, around, stage),
        replay=around.replay,
        pulse=start.pulse,
        workers=making.workers,
        aside=making.aside,
        rewards=making.rewards,
        evaluator=evaluator,
        moving=stage.moving,
    )


def _evaluator(config: RunConfig, making: Making, tracker: Tracker) -> Evaluator | None:
    """What has engines answer evaluation sets; None where there are none of either."""
    if config.eval.is_in_mid_run:
        tracker.message(f"evaluations are made {how_evaluated(config)}")
    answering = making.aside or making.workers
    if answering is None or not config.eval.sources:
        return None
    return Evaluator(config, answering, stores=config.eval.store_groups)


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


async def _making(start: _Start) -> Making:
    """Start it: without a buffer where engines only evaluate, nothing where they do not even that.
    The engines load while verifiers are tried."""
    config, is_trained_on = start.config, start.done is None
    if not has_engines(config):
        return Making()
    buffer, rewards = await both(_buffer(start), start.rewards())
    make = partial(start.workers, rewards)
    every = range(config.rollout.num_engines)
    first = config.num_collecting if is_trained_on else len(every)
    workers, aside = None, None
    if every[:first]:
        replay = None if buffer is None else buffer.handle
        workers = make(replay, every[:first], has_own_weights=not is_trained_on)
    if every[first:]:
        aside = make(None, every[first:], is_aside=True)
    for made in filter(None, (workers, aside)):
        made.start()
    await rewards.try_out(config, start.trials)
    return Making(workers=workers, aside=aside, rewards=rewards, buffer=buffer)


async def _buffer(start: _Start) -> Process[Replay] | None:
    if not samples(start.config):
        return None
    done = {} if start.done is None else {"done": start.done}
    return await start.processes.start("replay", "replay", **done)


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
    tracker.message("starting prompt queue, reward server and rollout workers")
    async with _starting(config, processes, tracker, trials, step=step, done=done) as start:
        making = await _making(start)
        start.watch(making.rewards, making.buffer)
        return making, start.pulse


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
    async with _starting(config, processes, tracker, trials) as start:
        rewards = await start.rewards()
        workers = start.workers(rewards, None)
        await both(workers.start_idle(), rewards.try_out(config, trials))
        start.watch(rewards)
        return workers, rewards, start.pulse


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

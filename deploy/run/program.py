"""A run from configuration to trained model: places, starts, watches and stops everything.

The acts stand in their order: an attempt starts the parts, learns, finishes; another follows when a
learner rank has failed and `run.max_restarts` allows it.

from oapl import RunConfig
from deploy.run.program import train
outcome = train(RunConfig(model={"path": "my-model"}, ...))
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.data import prompts
from actors.data.tokenizer import load_tokenizer
from deploy.checks.preflight import preflight
from deploy.processes.launch import Processes, connect
from deploy.run import folders, restarts
from deploy.run.attempts import Attempts
from deploy.run.evaluation import Evaluator
from deploy.run.loops import run_alone
from deploy.run.phases import Phases
from deploy.run.reward_servers import RewardServers
from deploy.run.signals import Stop
from deploy.run.workers import Workers
from learner.checkpoints.resuming import resume_from
from learner.group import LearnerGroup
from oapl.config import RunConfig
from oapl.config.objective import takes_examples
from oapl.errors import DrawsError
from oapl.interfaces import Batches, Scorer
from oapl.loops import learn
from oapl.objectives.base import build as build_objective
from oapl.objectives.base import shuffled
from oapl.records import Metrics, StepMetrics
from oapl.remote.waiting import within
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from oapl.tracking.history import first_evaluation
from oapl.tracking.rollouts import RolloutStore
from oapl.tracking.status import DONE, STOPPED
from oapl.tracking.tracker import Tracker, build_tracker
from reward_server import settings as reward_settings

CLOSE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        folder: The run folder; the trained model lies under `model/`.
        step: Learner steps made.
        signal: Number of the signal that stopped it, 0 when it was done.
        before, after: Evaluations at the start and at the end.
        phases: Seconds by phase.
    """

    folder: Path
    step: int
    signal: int = 0
    before: Metrics = field(default_factory=dict)
    after: Metrics = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)


def build_replay(config: RunConfig) -> ReplayBuffer:
    """Compose the replay buffer, in its own process, of prompts and the objective's credit."""
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    objective = build_objective(config.objective)
    if config.reward.control == "shuffle":
        objective = shuffled(objective, config.run.seed)
    return ReplayBuffer(
        prompts.build(config, tokenizer),
        objective.credit,
        PeriodNeeds(
            groups_per_step=config.groups_per_step,
            interval=config.sync.interval,
            max_steps=config.run.max_steps,
            capacity=config.replay.capacity,
            group_size=config.rollout.group_size,
            surplus=config.replay.surplus,
            max_deaths=config.rollout.max_deaths,
            max_versions=config.replay.max_versions,
            drains=config.sync.in_flight == "drain",
        ),
    )


def train(config: RunConfig) -> RunOutcome:
    """Train by reinforcement learning, or by imitation when the objective samples nothing.

    Raises:
        InputError: The configuration cannot work; nothing was started.
        OaplError: The run failed; its last checkpoint is good.
    """
    notes = preflight(config).notes
    with folders.locked(config.folder):
        config = folders.prepare(config)
        return run_alone(_train(reward_settings.prepare(config), notes))


def evaluate(config: RunConfig) -> RunOutcome:
    """Evaluate the model at `model.path` on `eval.sources`; nothing is trained.

    Raises:
        InputError: The configuration cannot work, or names no evaluation set.
        OaplError: The evaluation failed.
    """
    preflight(config, training=False)
    with folders.locked(config.folder):
        config = folders.prepare_evaluation(config)
        return run_alone(_evaluate(reward_settings.prepare(config)))


async def _train(config: RunConfig, notes: Sequence[str]) -> RunOutcome:
    """Attempt the run; when a learner rank failed, start everything again as often as allowed."""
    attempts = Attempts(policy=restarts.of_the_run(config), resume=resume_from(config))
    outcome = await _attempt(config, attempts, notes)
    while outcome is None:
        outcome = await _attempt(config, attempts)
    return outcome


async def _attempt(
    config: RunConfig, attempts: Attempts, notes: Sequence[str] = ()
) -> RunOutcome | None:
    """Make one attempt, and say how it ended.

    Returns:
        None when a rank failed and all is to be started again.
    """
    tracker = build_tracker(config, config.folder, attempts.step)
    stop = Stop()
    try:
        for note in notes:
            tracker.message(note)
        outcome = await _run(config, attempts, tracker, stop)
        tracker.phase(STOPPED if stop.signal else DONE)
        return outcome
    except Exception as error:
        if not stop.signal and attempts.take_another(error, tracker):
            return None
        tracker.message(f"failed: {type(error).__name__}: {error}")
        raise
    finally:
        tracker.close()


async def _run(config: RunConfig, attempts: Attempts, tracker: Tracker, stop: Stop) -> RunOutcome:
    """Start everything, learn to the end, save, stop everything."""
    phases = Phases(tracker, attempts.seconds)
    async with _processes(config) as processes:
        with phases("start"):
            build = _imitation if takes_examples(config) else _reinforcement
            run = await build(config, processes, tracker)
        if attempts.failures:
            run.learner.count_restart()
        async with _watched(run, attempts):
            with stop.on_signals():
                if attempts.resume is not None:
                    tracker.message(f"resuming from {attempts.resume}")
                    with phases("start"):
                        await run.learner.restore(attempts.resume)
                with phases("train"):
                    await _learn(config, run, stop, attempts.ends_at(config))
                with phases("finish"):
                    after = await _finish(config, run, stop)
    return RunOutcome(
        folder=config.folder,
        step=run.learner.step,
        signal=stop.signal,
        before=first_evaluation(config.folder),
        after=after,
        phases=attempts.seconds,
    )


@dataclass(slots=True)
class _Parts:
    """A run's parts: its learner, what that takes from, and the engines if there are any."""

    learner: LearnerGroup
    replay: Batches
    workers: Workers | None = None
    evaluator: Evaluator | None = None


async def _reinforcement(config: RunConfig, processes: Processes, tracker: Tracker) -> _Parts:
    tracker.message("starting replay, reward server, learner and rollout workers")
    replay, rewards = await asyncio.gather(
        processes.start("replay", "replay"), _reward_servers(config, processes)
    )
    workers = Workers(
        config,
        processes=processes,
        restarts=restarts.of_a_worker(config),
        replay=replay.handle,
        scorers=rewards,
        note=tracker.message,
    )
    workers.start()
    trainers = await processes.start_ranks()
    evaluator = Evaluator(config, workers) if config.eval.sources else None
    learner = LearnerGroup(
        config,
        trainers=[trainer.handle for trainer in trainers],
        replay=replay.handle,
        tracker=tracker,
        store=RolloutStore(config, config.folder, tracker.rollouts),
        engines=workers,
        rewards=RewardServers(rewards, tracker.message),
        evaluate=evaluator,
    )
    return _Parts(learner, replay.handle, workers, evaluator)


async def _reward_servers(config: RunConfig, processes: Processes) -> list[Scorer]:
    """Start them all at once."""
    names = [f"reward-{index}" for index in range(config.reward.servers)]
    started = await asyncio.gather(*(processes.start("reward", name) for name in names))
    return [process.handle for process in started]


async def _imitation(config: RunConfig, processes: Processes, tracker: Tracker) -> _Parts:
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    examples = prompts.ExampleQueue(config, tokenizer)
    trainers = await processes.start_ranks()
    learner = LearnerGroup(
        config,
        trainers=[trainer.handle for trainer in trainers],
        replay=examples,
        tracker=tracker,
        store=RolloutStore(config, config.folder, tracker.rollouts),
    )
    return _Parts(learner, examples)


@contextlib.asynccontextmanager
async def _watched(run: _Parts, attempts: Attempts) -> AsyncIterator[None]:
    """However the run ends, its last checkpoint is noted, and nobody restarts workers while their
    processes are being ended."""
    try:
        yield
    finally:
        attempts.resume = run.learner.last_checkpoint or attempts.resume
        if run.workers is not None:
            await run.workers.close()


async def _learn(config: RunConfig, run: _Parts, stop: Stop, ends_at: float) -> None:
    """Run the loop; end early when the workers have failed."""
    group_size = config.rollout.group_size
    learning = asyncio.ensure_future(
        learn(
            run.learner,
            replay=run.replay,
            groups_per_step=config.learner.batch_size // group_size,
            interval=config.sync.interval,
            max_steps=config.run.max_steps,
            timeout_s=config.sync.timeout_s,
            stop=stop.event,
            max_lead=config.sync.max_lead,
        )
    )
    if ends_at < math.inf:
        asyncio.get_running_loop().call_later(ends_at - time.monotonic(), stop.event.set)
    waiting: set[asyncio.Future[None]] = {learning}
    if run.workers is not None:
        waiting.add(run.workers.failed)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if learning not in done:
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)
    for future in done:
        future.result()
    if not run.learner.step and (cause := await run.replay.first_failure()):
        raise DrawsError.since(cause)


async def _finish(config: RunConfig, run: _Parts, stop: Stop) -> Metrics:
    """Save; evaluate the final policy unless a signal asked to stop."""
    await run.learner.checkpoint()
    await run.learner.save_model(config.folder / "model")
    after: Metrics = {}
    if run.evaluator is not None and not stop.signal:
        await run.learner.publish_last()
        after = await run.learner.evaluate()
    if run.workers is not None:
        await run.workers.stop()
    await run.replay.finish()
    return after


async def _evaluate(config: RunConfig) -> RunOutcome:
    tracker = build_tracker(config, config.folder, None)
    phases = Phases(tracker, {})
    try:
        async with _processes(config, training=False) as processes:
            with phases("start"):
                workers = Workers(
                    config,
                    processes=processes,
                    restarts=restarts.of_a_worker(config),
                    replay=None,
                    scorers=await _reward_servers(config, processes),
                    note=tracker.message,
                )
                await workers.start_idle()
            with phases("evaluate"):
                after = await Evaluator(config, workers)("eval")
            tracker.log(StepMetrics(step=0, values=after))
    finally:
        tracker.close()
    return RunOutcome(folder=config.folder, step=0, after=after, phases=phases.seconds)


@contextlib.asynccontextmanager
async def _processes(config: RunConfig, *, training: bool = True) -> AsyncIterator[Processes]:
    processes = await asyncio.to_thread(connect, config, training=training)
    try:
        yield processes
    finally:
        await within(CLOSE_TIMEOUT_S, processes.close(), "the run's processes to end")

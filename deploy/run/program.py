"""A run from configuration to trained model: places, starts, watches and stops everything.

from oapl import RunConfig
from deploy.run.program import train
outcome = train(RunConfig(model={"path": "my-model"}, ...))
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.data import prompts
from actors.data.tokenizer import load_tokenizer
from deploy.checks.preflight import preflight
from deploy.processes.launch import Processes, connect
from deploy.run import folders
from deploy.run.evaluation import Evaluator
from deploy.run.reward_servers import RewardServers
from deploy.run.workers import Workers
from learner.group import LearnerGroup
from oapl.config import RunConfig
from oapl.config.objective import takes_examples
from oapl.errors import InputError, RankError
from oapl.loops import learn
from oapl.objectives.base import build as build_objective
from oapl.objectives.base import shuffled
from oapl.records import Metrics, StepMetrics
from oapl.remote.waiting import within
from oapl.replay.buffer import ReplayBuffer
from oapl.tracking.rollouts import RolloutStore
from oapl.tracking.status import DONE, RESTART, STOPPED
from oapl.tracking.tracker import Tracker, build_tracker, first_evaluation
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
    """The replay buffer, composed in its own process of prompts and the objective's credit."""
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    objective = build_objective(config.objective)
    if config.reward.control == "shuffle":
        objective = shuffled(objective, config.run.seed)
    return ReplayBuffer(
        prompts.build(config, tokenizer),
        objective.credit,
        groups_per_step=config.groups_per_step,
        interval=config.sync.interval,
        max_steps=config.run.max_steps,
        capacity=config.replay.capacity,
        group_size=config.rollout.group_size,
        surplus=config.replay.surplus,
        max_deaths=config.rollout.max_deaths,
        max_versions=config.replay.max_versions,
        drains=config.sync.in_flight == "drain",
    )


def train(config: RunConfig) -> RunOutcome:
    """Train by reinforcement learning, or by imitation when the objective samples nothing.

    Raises:
        InputError: The configuration cannot work; nothing was started.
        OaplError: The run failed; its last checkpoint is good.
    """
    notes = preflight(config).notes
    with folders.locked(config.folder):
        folders.prepare(config)
        return asyncio.run(_train(reward_settings.prepare(config), notes))


def evaluate(config: RunConfig) -> RunOutcome:
    """Evaluate the model at `model.path` on `eval.sources`; nothing is trained."""
    if not config.eval.sources:
        raise InputError("eval.sources is empty; name at least one evaluation set")
    preflight(config, training=False)
    with folders.locked(config.folder):
        folders.prepare_evaluation(config)
        return asyncio.run(_evaluate(reward_settings.prepare(config)))


async def _train(config: RunConfig, notes: Sequence[str]) -> RunOutcome:
    """Attempt the run; when a learner rank failed, start everything again as often as allowed."""
    attempts = _Attempts(resume=folders.resume_from(config), restarts_left=config.run.max_restarts)
    outcome = await _attempt(config, attempts, notes)
    while outcome is None:
        outcome = await _attempt(config, attempts)
    return outcome


async def _attempt(
    config: RunConfig, attempts: _Attempts, notes: Sequence[str] = ()
) -> RunOutcome | None:
    """Start everything, learn to the end, stop everything.

    Returns:
        None when a rank failed and all is to be started again.
    """
    resume = attempts.resume
    start = 0 if resume is None else folders.step_of(resume)
    tracker = build_tracker(config, config.folder, start)
    phases = _Phases(tracker, attempts.seconds)
    try:
        for note in notes:
            tracker.message(note)
        async with _processes(config) as processes:
            with phases("start"):
                build = _imitation if takes_examples(config) else _reinforcement
                run = await build(config, processes, tracker)
            if attempts.is_restarted:
                run.learner.count_restart()
            async with _watched(run), _stopping_on_signals() as stop:
                try:
                    if resume is not None:
                        tracker.message(f"resuming from {resume}")
                        with phases("start"):
                            await run.learner.restore(resume)
                    with phases("train"):
                        await _learn(config, run, stop, attempts.ends_at(config))
                    with phases("finish"):
                        after = await _finish(config, run, stop)
                finally:
                    attempts.resume = run.learner.last_checkpoint or resume
        tracker.phase(STOPPED if stop.signal else DONE)
    except Exception as error:
        if isinstance(error, RankError) and attempts.restarts_left and not stop.signal:
            attempts.restart(error, tracker)
            return None
        tracker.message(f"failed: {type(error).__name__}: {error}")
        raise
    finally:
        tracker.close()
    return RunOutcome(
        folder=config.folder,
        step=run.learner.step,
        signal=stop.signal,
        before=first_evaluation(config.folder),
        after=after,
        phases=attempts.seconds,
    )


@dataclass(slots=True)
class _Run:
    """The parts of a run, and its learner."""

    learner: LearnerGroup
    replay: Any
    workers: Workers | None = None
    evaluator: Evaluator | None = None


async def _reinforcement(config: RunConfig, processes: Processes, tracker: Tracker) -> _Run:
    tracker.message("starting replay, reward server, learner and rollout workers")
    replay, rewards = await asyncio.gather(
        processes.start("replay", "replay"), _reward_servers(config, processes)
    )
    workers = Workers(
        config,
        processes=processes,
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
    return _Run(learner, replay.handle, workers, evaluator)


async def _reward_servers(config: RunConfig, processes: Processes) -> list[Any]:
    """Their handles."""
    names = [f"reward-{index}" for index in range(config.reward.servers)]
    started = await asyncio.gather(*(processes.start("reward", name) for name in names))
    return [process.handle for process in started]


async def _imitation(config: RunConfig, processes: Processes, tracker: Tracker) -> _Run:
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
    return _Run(learner, examples)


@contextlib.asynccontextmanager
async def _watched(run: _Run) -> AsyncIterator[None]:
    """However the run ends, nobody restarts workers while their processes are being ended."""
    try:
        yield
    finally:
        if run.workers is not None:
            await run.workers.close()


async def _learn(config: RunConfig, run: _Run, stop: _Stop, ends_at: float) -> None:
    """Run the loop; end early when the workers has failed."""
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


async def _finish(config: RunConfig, run: _Run, stop: _Stop) -> Metrics:
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
    phases = _Phases(tracker, {})
    try:
        async with _processes(config, training=False) as processes:
            with phases("start"):
                workers = Workers(
                    config,
                    processes=processes,
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


class _Stop:
    """Set by the first SIGINT or SIGTERM; a second one ends the program at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.signal = 0


@contextlib.asynccontextmanager
async def _stopping_on_signals() -> AsyncIterator[_Stop]:
    stop, loop = _Stop(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    old: dict[int, Any] = {}

    def restore() -> None:
        while old:
            signal.signal(*old.popitem())

    def handle(number: int, frame: object) -> None:
        stop.signal = number
        restore()
        loop.call_soon_threadsafe(stop.event.set)

    with contextlib.suppress(ValueError):  # not the main thread: whoever called us handles signals
        old = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        restore()


class _Phases:
    """Wall time by phase, added to `seconds`; who watches is told of each."""

    def __init__(self, tracker: Tracker, seconds: dict[str, float]) -> None:
        self._tracker = tracker
        self.seconds = seconds

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        self._tracker.phase(name)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


@dataclass(slots=True)
class _Attempts:
    """What a run keeps when its processes are started again.

    Attributes:
        resume: The checkpoint to go on from; None for the beginning.
        restarts_left: How often all may still be started again.
        is_restarted: Whether it was, at least once.
        seconds: Wall time by phase.
    """

    resume: Path | None
    restarts_left: int
    is_restarted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def restart(self, why: RankError, tracker: Tracker) -> None:
        self.restarts_left -= 1
        self.is_restarted = True
        place = "the beginning" if self.resume is None else self.resume.name
        tracker.phase(RESTART)
        tracker.message(
            f"{why}; starting all processes again from {place}, {self.restarts_left} restarts left "
            "(run.max_restarts)"
        )

    def ends_at(self, config: RunConfig) -> float:
        """When `run.max_hours` are over, by the monotonic clock."""
        hours = config.run.max_hours
        return self.started + 3600 * hours if hours else math.inf

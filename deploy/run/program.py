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
from functools import partial

from deploy.checks.preflight import preflight
from deploy.processes.launch import Processes
from deploy.run import folders, parts, restarts, storage
from deploy.run.attempts import Attempts
from deploy.run.evaluation import Evaluator
from deploy.run.lifetime import processes_of, unless_failed
from deploy.run.loops import run_alone
from deploy.run.outcome import RunOutcome, earlier_outcome
from deploy.run.phases import Phases
from deploy.run.signals import Stop, Stopped
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.errors import CheckpointError, DrawsError, InputError, in_one_line
from oapl.loops import learn
from oapl.records import Metrics, Prompt, StepMetrics
from oapl.remote.waiting import in_thread_of_its_own, unless
from oapl.tracking.history import first_evaluation
from oapl.tracking.status import DONE, STOPPED
from oapl.tracking.tracker import Tracker, build_tracker
from reward_server import settings as reward_settings


def train(config: RunConfig) -> RunOutcome:
    """Train by reinforcement learning, or by imitation when the objective samples nothing.

    Raises:
        InputError: The configuration cannot work; nothing was started.
        OaplError: The run failed; its last checkpoint is good.
    """
    report = preflight(config)
    with storage.named(config.folder), folders.locked(config.folder):
        config = folders.prepare(config)
        resume = resuming.resume_from(config)
        if earlier := earlier_outcome(config, resume):
            return earlier
        attempts = Attempts(
            policy=restarts.of_the_run(config),
            resume=resume,
            setting=config.checkpoint.resume,
            trials=report.trials,
        )
        return run_alone(_train(reward_settings.prepare(config), attempts, report.notes))


def evaluate(config: RunConfig) -> RunOutcome:
    """Evaluate the model at `model.path` on `eval.sources`; nothing is trained.

    Raises:
        InputError: The configuration cannot work, or names no evaluation set.
        OaplError: The evaluation failed.
    """
    trials = preflight(config, purpose="evaluate").trials
    with storage.named(config.folder), folders.locked(config.folder):
        config = folders.prepare_evaluation(config)
        return run_alone(_evaluate(reward_settings.prepare(config), trials))


async def _train(config: RunConfig, attempts: Attempts, notes: Sequence[str]) -> RunOutcome:
    """Attempt the run; when a learner rank failed, start everything again as often as allowed."""
    stop = Stop()
    try:
        with stop.on_signals():
            if attempts.resume is not None:
                verifying = partial(resuming.verify, attempts.resume)
                await stop.unless_asked(in_thread_of_its_own(verifying))
            outcome = await _attempt(config, attempts, stop, notes)
            while outcome is None:
                outcome = await _attempt(config, attempts, stop)
            return outcome
    except (Stopped, asyncio.CancelledError):
        return stop.ended(RunOutcome(folder=config.folder, step=attempts.step, next=attempts.next))


async def _attempt(
    config: RunConfig, attempts: Attempts, stop: Stop, notes: Sequence[str] = ()
) -> RunOutcome | None:
    """Make one attempt, and say how it ended.

    Returns:
        None when a rank failed and all is to be started again.
    """
    tracker = build_tracker(config, config.folder, attempts.step)
    stop.tell = tracker.message
    try:
        for note in notes:
            tracker.message(note)
        outcome = await _run(config, attempts, tracker, stop)
        tracker.phase(STOPPED if stop.signal else DONE)
        return outcome
    except (Stopped, asyncio.CancelledError):
        if stop.signal:
            tracker.phase(STOPPED)
        raise
    except Exception as error:
        if not stop.signal and attempts.take_another(error, tracker):
            return None
        failure = storage.cause(error, config.folder) or error
        if not isinstance(failure, (InputError, CheckpointError)):
            failure.add_note(attempts.next)
        tracker.fail(f"failed: {type(failure).__name__}: {in_one_line(failure)}")
        if failure is error:
            raise
        raise failure from error
    finally:
        tracker.close()


async def _run(config: RunConfig, attempts: Attempts, tracker: Tracker, stop: Stop) -> RunOutcome:
    """Start everything, learn to the end, save, stop everything."""
    phases = Phases(tracker, attempts.seconds)
    async with processes_of(config, stop) as processes:
        with phases("start"):
            run = await stop.unless_asked(parts.start(config, processes, tracker, attempts))
        run.learner.count_restarts(attempts.uncounted)
        async with _watched(run, attempts):
            living = _live(config, attempts, run, phases, tracker, stop)
            after = await unless_failed(run.failures, living)
    return RunOutcome(
        folder=config.folder,
        step=run.learner.step,
        signal=stop.signal,
        before=first_evaluation(config.folder),
        after=after,
        phases=attempts.seconds,
        next=attempts.next,
    )


@contextlib.asynccontextmanager
async def _watched(run: parts.Parts, attempts: Attempts) -> AsyncIterator[None]:
    """However the run ends, its last checkpoint is noted, and nobody restarts workers while their
    processes are being ended."""
    try:
        yield
    finally:
        attempts.saved(run.learner.last_checkpoint)
        await run.close()


async def _live(
    config: RunConfig,
    attempts: Attempts,
    run: parts.Parts,
    phases: Phases,
    tracker: Tracker,
    stop: Stop,
) -> Metrics:
    """Go on from the checkpoint, learn, finish."""
    if attempts.resume is not None:
        tracker.message(f"resuming from {attempts.resume}")
        with phases("start"):
            await stop.unless_asked(run.learner.restore(attempts.resume))
    with phases("train"), stop.by(" after this step", run.learner.abandon):
        await _learn(config, run, stop, attempts.ends_at(config))
    with phases("finish"):
        return await _finish(config, run, stop)


async def _learn(config: RunConfig, run: parts.Parts, stop: Stop, ends_at: float) -> None:
    """Run the loop."""
    if ends_at < math.inf:
        asyncio.get_running_loop().call_later(ends_at - time.monotonic(), stop.event.set)
    await learn(
        run.learner,
        replay=run.replay,
        groups_per_step=config.groups_per_step,
        interval=config.sync.interval,
        max_steps=config.run.max_steps,
        timeout_s=config.sync.timeout_s,
        stop=stop.event,
        max_lead=config.sync.max_lead,
        mini_batches=config.learner.mini_batches,
        outlast=run.outlast,
    )
    if not run.learner.step and (cause := await run.replay.first_failure()):
        raise DrawsError.since(cause)


async def _finish(config: RunConfig, run: parts.Parts, stop: Stop) -> Metrics:
    """Save; evaluate the final policy unless a signal asks to stop."""
    await run.learner.checkpoint()
    await run.learner.save_model(config.folder / "model")
    after = await unless(stop.asked, _evaluate_last(run))  # what is saved stays saved
    if run.workers is not None:
        await run.workers.stop()
    await run.replay.finish()
    return after or {}


async def _evaluate_last(run: parts.Parts) -> Metrics:
    if run.evaluator is None:
        return {}
    await run.learner.publish_last()
    return await run.learner.evaluate()


async def _evaluate(config: RunConfig, trials: Sequence[Prompt]) -> RunOutcome:
    tracker, stop = build_tracker(config, config.folder, None), Stop()
    stop.tell = tracker.message
    phases = Phases(tracker, {})
    try:
        with stop.on_signals():
            async with processes_of(config, stop, "evaluate") as processes:
                after = await stop.unless_asked(
                    _evaluation(config, processes, tracker, phases, trials)
                )
        tracker.log(StepMetrics(step=0, values=after))
    except (Stopped, asyncio.CancelledError):
        return stop.ended(RunOutcome(folder=config.folder, step=0))
    finally:
        tracker.close()
    return RunOutcome(folder=config.folder, step=0, after=after, phases=phases.seconds)


async def _evaluation(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    phases: Phases,
    trials: Sequence[Prompt],
) -> Metrics:
    with phases("start"):
        idle = await parts.start_idle(config, processes, tracker, trials)
    workers, rewards, pulse = idle
    try:
        with phases("evaluate"):
            evaluating = Evaluator(config, workers, stores=True)("eval")
            failures = [part.failed for part in idle]
            return await unless_failed(failures, evaluating)
    finally:
        await workers.close()
        await rewards.close()
        await pulse.close()

"""The training of a leg: an attempt starts the parts, learns, finishes; another one follows when a
learner rank or the replay buffer is lost and `[restarts]` allows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from deploy.run import parts, storage
from deploy.run.attempts import Attempts
from deploy.run.leg import HandOver, Leg, mark
from deploy.run.lifetime import processes_of, unless_failed
from deploy.run.outcome import BY_STEPS, RunOutcome
from deploy.run.phases import Phases
from deploy.run.signals import Stop, Stopped
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.config.stages import PARTS
from oapl.errors import CheckpointError, DrawsError, InputError, in_one_line
from oapl.loops import learn
from oapl.records import Metrics
from oapl.remote.waiting import in_thread_of_its_own, unless
from oapl.tracking.history import first_evaluation
from oapl.tracking.status import STOPPED
from oapl.tracking.tracker import Tracker, build_tracker


async def train(config: RunConfig, attempts: Attempts, notes: Sequence[str]) -> RunOutcome:
    """Attempt a leg; when what cannot be replaced alone is lost, start everything again as often
    as allowed.

    Args:
        config: The run's, or the stage's.
        attempts: What the attempts have in common.
        notes: What a person should know before it goes on.
    """
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
    """Make one attempt, after the pause that is due, and say how it ended.

    Returns:
        None when a part was lost and all is to be started again.
    """
    leg, begins = attempts.leg, time.monotonic() + attempts.pause_s
    tracker = build_tracker(config, config.folder, attempts.step, leg.place)
    stop.tell = tracker.message
    try:
        mark(tracker, config.folder, leg)
        for note in notes:
            tracker.message(note)
        await stop.unless_asked(asyncio.sleep(attempts.pause_s))
        outcome = await _run(config, attempts, tracker, stop)
        tracker.phase(STOPPED if stop.signal else leg.end(is_over=bool(outcome.ended)))
        return outcome
    except (Stopped, asyncio.CancelledError):
        if stop.signal:
            tracker.phase(STOPPED)
        raise
    except Exception as error:
        unwritable = storage.cause(error, config.folder)  # a start would meet it again
        if not stop.signal and not unwritable:
            lived_s = time.monotonic() - begins
            if attempts.take_another(error, tracker, lived_s):
                await _paused(attempts, tracker, stop)
                return None
        failure = unwritable or error
        is_gone = attempts.resume is not None and not attempts.resume.exists()
        if not isinstance(failure, (InputError, CheckpointError)) and not is_gone:
            failure.add_note(attempts.next)
        tracker.fail(f"failed: {type(failure).__name__}: {in_one_line(failure)}")
        if failure is error:
            raise
        raise failure from error
    finally:
        tracker.close()


async def _paused(attempts: Attempts, tracker: Tracker, stop: Stop) -> None:
    """Wait before the next attempt, while whoever asks to stop is still told that it is heard."""
    try:
        await stop.unless_asked(asyncio.sleep(attempts.pause_s))
    except (Stopped, asyncio.CancelledError):
        if stop.signal:
            tracker.phase(STOPPED)
        raise


async def _run(config: RunConfig, attempts: Attempts, tracker: Tracker, stop: Stop) -> RunOutcome:
    """Start everything, learn to the end, save, stop everything."""
    phases = Phases(tracker, attempts.seconds)
    async with processes_of(config, stop, is_again=bool(attempts.failures)) as processes:
        with phases("start"):
            run = await stop.unless_asked(parts.start(config, processes, tracker, attempts))
        run.learner.count_restarts(attempts.uncounted)
        async with _watched(run, attempts):
            living = _live(config, attempts, run, phases, tracker, stop)
            after = await unless_failed(run.failures, living)
    return RunOutcome(
        folder=config.folder,
        step=run.learner.total,
        made=run.learner.step,
        ended=run.ended,
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
        attempts.since = time.monotonic()
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
    elif attempts.leg.hand_over is not None:
        with phases("start"):
            await stop.unless_asked(_take_over(attempts.leg.hand_over, run, tracker))
    with phases("train"), stop.by(" after this step", run.learner.abandon):
        await _learn(config, run, stop, attempts.ends_at(config))
    with phases("finish"):
        return await _finish(config, attempts.leg, run, stop)


async def _take_over(hand_over: HandOver, run: parts.Parts, tracker: Tracker) -> None:
    kept = ", ".join(part for part in PARTS if part in hand_over.keeps)
    tracker.message(f"taking over {kept} from {hand_over.checkpoint}")
    if not await run.learner.take_over(hand_over.checkpoint, hand_over.keeps):
        tracker.message("this stage has other data, which it begins from the first row")


async def _learn(config: RunConfig, run: parts.Parts, stop: Stop, ends_at: float) -> None:
    """Run the loop, and note why it has ended."""
    run.learner.ends_by(stop.event.set)
    if run.moving is not None:
        run.moving.begin(stop.event.set)
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
        moves=config.sync.stragglers == "move",
        outlast=run.outlast,
    )
    if not run.learner.step and (cause := await run.replay.first_failure()):
        raise DrawsError.since(cause)
    run.ended = _why_ended(config, run, stop)


def _why_ended(config: RunConfig, run: parts.Parts, stop: Stop) -> str:
    """Why nothing is left to do; empty where a signal or `run.max_hours` came before."""
    if run.learner.step >= config.run.max_steps:
        return BY_STEPS
    if run.moving is not None and run.moving.cause:
        return run.moving.cause
    return "" if stop.event.is_set() else "the data has ended"


async def _finish(config: RunConfig, leg: Leg, run: parts.Parts, stop: Stop) -> Metrics:
    """Save; evaluate the final policy unless a signal asks to stop, or the next stage does it."""
    run.learner.finish()
    if run.learner.step or leg.place is None:  # else the stage before has left this checkpoint
        await run.learner.checkpoint()
    await run.learner.save_model(config.folder / leg.model)
    after: Metrics | None = None
    if leg.evaluates or not run.ended:
        after = await unless(stop.asked, _evaluate_last(run))  # what is saved stays saved
    else:
        await unless(stop.asked, run.learner.await_evaluation())
    for workers in (run.workers, run.aside):
        if workers is not None:
            await workers.stop()
    await run.replay.finish()
    return after or {}


async def _evaluate_last(run: parts.Parts) -> Metrics:
    if run.evaluator is None:
        return {}
    await run.learner.publish_last()
    return await run.learner.evaluate()

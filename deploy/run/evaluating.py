"""The evaluation of a model, without training."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from deploy.processes.base import Processes
from deploy.run import parts, storage
from deploy.run.evaluation import Evaluator
from deploy.run.evaluation_files import ANSWERS, SETTINGS
from deploy.run.last_faults import tell_faults
from deploy.run.leg import WHOLE, Leg, mark
from deploy.run.lifetime import processes_of, unless_failed
from deploy.run.outcome import RunOutcome
from deploy.run.phases import Phases
from deploy.run.signals import Stop, Stopped
from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.records import Metrics, Prompt, StepMetrics
from oapl.tracking.status import STOPPED, StatusSink
from oapl.tracking.tracker import Tracker, build_tracker

LABEL = "eval"
"""Of the answers, in `evaluations/`."""


async def evaluate(
    config: RunConfig,
    trials: Sequence[Prompt],
    leg: Leg = WHOLE,
    folder: Path | None = None,
    notes: Sequence[str] = (),
) -> RunOutcome:
    """Evaluate the model of a run, or of a stage.

    Args:
        config: The run's, or the stage's.
        trials: Prompts to try each verifier on.
        leg: What of the run it is.
        folder: Of the run; None: `config.folder`.
        notes: What a person should know first.
    """
    folder = folder or config.folder
    tracker, stop = build_tracker(config, folder, None, leg.place), Stop()
    if leg.place is not None:
        tracker.add(StatusSink(folder, leg.first, leg.place))
    mark(tracker, folder, leg)
    stop.tell = tracker.message
    for note in notes:
        tracker.message(note)
    phases = Phases(tracker, {})
    try:
        with stop.on_signals():
            async with processes_of(config, stop, "evaluate") as processes:
                after = await stop.unless_asked(
                    _evaluation(config, processes, tracker, phases, trials)
                )
        tracker.log(StepMetrics(step=leg.first, values=after))
        tracker.phase(leg.end(is_over=True))
    except (Stopped, asyncio.CancelledError):
        if stop.signal:
            tracker.phase(STOPPED)
        return stop.ended(RunOutcome(folder=folder, step=leg.first))
    except Exception as error:
        failure = storage.told(error, folder, tracker)
        if failure is error:
            raise
        raise failure from error
    finally:
        tracker.close()
    return RunOutcome(
        folder=folder,
        step=leg.first,
        ended="evaluated",
        after=after,
        phases=phases.seconds,
    )


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
            evaluating = Evaluator(config, workers, stores=True, tell=tracker.message)(LABEL)
            failures = [part.failed for part in idle]
            figures = await unless_failed(failures, evaluating)
        await tell_faults(tracker.message, (workers, rewards))
        (config.folder / ANSWERS / SETTINGS).write_text(to_toml(config))
        return figures
    finally:
        await workers.close()
        await rewards.close()
        await pulse.close()

"""Groups made to be stored: answers by the workers of a run, rewards as they end, no learner.

Invariants: each draw of the data is in at most one whole shard, and, once the command has ended by
itself, in one, but for draws that failed, which it tells; whatever ends it, but a kill, what it has
been given is stored, and the same command goes on with the draws that are in no whole shard; so
does this one by itself where the prompt queue is lost, or Ray on this machine, as often as
`[restarts]` allows. Beside the shards of a command that ended by itself lie the pass rates of its
questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.checks.generation import Generation, done_in, generating
from deploy.checks.preflight import PreflightReport, preflight
from deploy.processes.base import Processes
from deploy.run import folders, parts, storage
from deploy.run.last_faults import tell_faults
from deploy.run.leg import WHOLE, Leg, mark
from deploy.run.lifetime import processes_of, unless_failed
from deploy.run.loops import run_alone
from deploy.run.outcome import Generated
from deploy.run.phases import Phases
from deploy.run.restarts import Failures, of_the_run
from deploy.run.shelf import shelf
from deploy.run.signals import Stop, Stopped
from oapl.config import RunConfig
from oapl.errors import LostError
from oapl.groups_file import pass_rates
from oapl.interfaces import Batches, Tracker
from oapl.loops import Outlast
from oapl.records import Prompt, ScoredGroup
from oapl.remote.waiting import unless
from oapl.tracking.restarts import RestartLog
from oapl.tracking.status import GENERATE, RESTART, STOPPED, StatusSink
from oapl.tracking.tracker import build_tracker
from reward_server import settings as reward_settings

HELD_S = 600.0
"""How long groups are held back at most, where `checkpoint.max_minutes` says nothing: a killed
command makes them again."""
TELL_S = 30.0
"""Between two lines of progress."""


def generate(config: RunConfig) -> Generated:
    """Answer each question of `data.sources` and store the groups in the run folder.

    Args:
        config: The recipe; see `deploy.checks.generation.generating` for how it is read.

    Raises:
        InputError: The configuration cannot work, or other groups are there; nothing was started.
        OaplError: The run failed; what whole shards hold is good.
    """
    config = generating(config)
    report = preflight(config, purpose="generate")
    with storage.named(config.folder), folders.locked(config.folder):
        return make(folders.prepare_generation(config), report)


def make(
    config: RunConfig, report: PreflightReport, leg: Leg = WHOLE, folder: Path | None = None
) -> Generated:
    """Make the groups that are not there yet; the folder is locked.

    Args:
        config: Of `generating`.
        report: What was found of it.
        leg: What of a run it is.
        folder: Of the run, which tells of it; None: `config.folder`.

    Raises:
        OaplError: The run failed; what whole shards hold is good.
    """
    assert report.generation is not None, "the data was looked at"
    # Anew, under the lock: the command that held it may have ended only now.
    done = done_in(report.generation.folder)
    work = replace(report.generation, done=done)
    if len(work.done) >= work.total:
        made = Generated(folder=work.folder, groups=len(work.done), total=work.total)
    else:
        work.begin()
        prepared = reward_settings.prepare(config)
        made = run_alone(_generate(prepared, work, report, leg, folder or config.folder))
    if made.groups:  # also where the command before was killed at the very end
        pass_rates.write(work.folder, config.eval.threshold)
    return made


async def _generate(
    config: RunConfig, work: Generation, report: PreflightReport, leg: Leg, folder: Path
) -> Generated:
    tracker, stop = build_tracker(config, folder, None, leg.place), Stop()
    tracker.add(StatusSink(folder, leg.first, leg.place))
    mark(tracker, folder, leg)
    stop.tell = tracker.message
    progress = Progress(work, tracker.message, tracker.made)
    try:
        for note in report.notes:
            tracker.message(note)
        failures, cause = of_the_run(config), None
        with stop.on_signals():
            while cause is None:
                cause = await _attempt(
                    config, tracker, stop, progress, report.trials, leg, failures
                )
        outcome = progress.outcome(stop.signal, cause)
        tracker.phase(STOPPED if stop.signal else leg.end(is_over=outcome.is_whole))
        return outcome
    except (Stopped, asyncio.CancelledError):
        if stop.signal:
            tracker.phase(STOPPED)
        return stop.ended(progress.outcome(stop.signal))
    except Exception as error:
        failure = storage.told(error, folder, tracker)
        if failure is error:
            raise
        raise failure from error
    finally:
        tracker.close()


async def _attempt(
    config: RunConfig,
    tracker: Tracker,
    stop: Stop,
    progress: Progress,
    trials: Sequence[Prompt],
    leg: Leg,
    restarts: Mapping[str, Failures],
) -> str | None:
    """Make the groups that are in no whole shard.

    Returns:
        Why the first draw failed that did, empty where none did; None where what cannot be replaced
        alone was lost, and all is to be started again.
    """
    is_again, began = any(failures.number for failures in restarts.values()), time.monotonic()
    try:
        async with processes_of(config, stop, "generate", is_again=is_again) as processes:
            return await _run(config, processes, tracker, stop, progress, trials, leg)
    except LostError as error:
        failures = restarts[error.part]
        failures.add(time.monotonic() - began)
        if stop.signal or failures.are_too_many or storage.cause(error, config.folder):
            raise
        RestartLog(config.folder).add(error.kind, str(error))
        tracker.phase(RESTART)
        tracker.message(
            f"{error}; starting all processes again, {failures.left} restarts left "
            f"({failures.setting})"
        )
    progress.begin_again()
    await stop.unless_asked(asyncio.sleep(failures.pause_s))
    return None


async def _run(
    config: RunConfig,
    processes: Processes,
    tracker: Tracker,
    stop: Stop,
    progress: Progress,
    trials: Sequence[Prompt],
    leg: Leg,
) -> str:
    """Start everything, store groups to the end, stop everything.

    Returns:
        Why the first draw failed that did; empty where none did.
    """
    phases = Phases(tracker, {})
    with phases("start"):
        done = progress.work.done
        starting = parts.start_making(
            config, processes, tracker, trials, done, leg.noise(len(done))
        )
        making, pulse = await stop.unless_asked(starting)
    workers, rewards, buffer = making.workers, making.rewards, making.buffer
    assert workers is not None, "nothing is generated without engines"
    assert rewards is not None, "nothing is judged without reward servers"
    assert buffer is not None, "nothing is handed out without a prompt queue"
    try:
        with phases(GENERATE), stop.by(" with what is there stored", lambda: None):
            failures = [pulse.failed, workers.failed, rewards.failed]
            storing = _store(config, buffer.handle, workers.await_batch, progress, stop)
            await unless_failed(failures, storing)
        progress.tell()
        await tell_faults(tracker.message, (workers, rewards))
        cause: str = await buffer.handle.first_failure()
        await workers.stop()
        return cause
    finally:
        await pulse.close()
        await workers.close()
        await rewards.close()


async def _store(
    config: RunConfig, buffer: Batches, outlast: Outlast, progress: Progress, stop: Stop
) -> None:
    """Write groups as they come, until all are there or a stop is asked for."""
    held_s = 60 * config.checkpoint.max_minutes or HELD_S
    if config.run.max_hours:
        asyncio.get_running_loop().call_later(3600 * config.run.max_hours, stop.event.set)
    work = progress.work
    async with shelf(work.folder, work.header, held_s) as stored:
        taken = 0
        while True:
            wait = outlast(partial(buffer.take, 1), config.sync.timeout_s)
            groups = await unless(stop.event, wait)
            if groups is None:
                return
            for group in groups:
                await stored.put(group.scored)
                progress.add(group.scored)
            taken += len(groups)
            await buffer.trained([group.id for group in groups], taken)


class Progress:
    """Counts what is stored, and tells of it now and then.

    Rates are from the hand-out of the first group on: before it engines load.

    Args:
        work: The whole.
        tell: Is given lines for the person who watches.
        made: Is given how many groups are there, and how many there will be.
        now: The monotonic clock.

    Attributes:
        work: As given, with what was done when all was started last.
        groups: Made since then.
    """

    def __init__(
        self,
        work: Generation,
        tell: Callable[[str], None],
        made: Callable[[int, int], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._made = tell, made
        self._now = now
        self._begin(work)

    def begin_again(self) -> None:
        """Count anew, from what is in whole shards now."""
        self._begin(replace(self.work, done=done_in(self.work.folder)))

    def _begin(self, work: Generation) -> None:
        self.work = work
        self.groups = 0
        self._began = self._told = self._last = 0.0
        self._tokens = self._rollouts = 0
        self._reward = 0.0
        self._made(len(work.done), work.total)
        if work.done:
            self._tell(f"going on: {len(work.done):,} of {work.total:,} groups are there")

    def add(self, scored: ScoredGroup) -> None:
        """Count a group that is stored."""
        self._last = self._now()
        if not self.groups:
            self._began, self._told = self._last - scored.group.seconds, self._last
        self._tokens += scored.group.num_tokens
        self.groups += 1
        self._rollouts += len(scored.rewards)
        self._reward += float(scored.rewards.sum())
        self._made(len(self.work.done) + self.groups, self.work.total)
        if self._last - self._told >= TELL_S:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is, and how fast it goes."""
        self._told = self._last = self._now()
        there, total = len(self.work.done) + self.groups, self.work.total
        if not self.groups:
            self._tell(f"{there:,} of {total:,} groups")
            return
        seconds = max(self._last - self._began, 1e-9)
        rate = self.groups / seconds
        self._tell(
            f"{there:,} of {total:,} groups, mean reward {self._reward / self._rollouts:.3f}; "
            f"{rate:.2f} groups and {self._tokens / seconds:,.0f} tokens a second, "
            f"{(total - there) / rate:.0f} s to go"
        )

    def outcome(self, signal: int, cause: str = "") -> Generated:
        """How it ended.

        Args:
            signal: That stopped it; 0 is none.
            cause: Why the first draw failed; empty where none did.
        """
        return Generated(
            folder=self.work.folder,
            groups=len(done_in(self.work.folder)),
            total=self.work.total,
            tokens=self._tokens,
            seconds=self._last - self._began,
            signal=signal,
            cause=cause,
        )

"""Publications: the learner's weights on their way to the engines.

Invariants: weights leave the learner in chunks, as promises that engines follow while later chunks
are still to come, and the learner makes no step until all have left; one publication at a time;
what goes wrong beside training is raised by the learner's next act; a checkpoint holds the weights
that engines serve whenever they are not the learner's own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from learner.checkpoints import published
from learner.ranks import Ranks
from oapl.config import RunConfig
from oapl.config.objective import samples
from oapl.interfaces import Tracker
from oapl.records import Metrics, ProbeReport, State, WeightsVersion
from oapl.weights.base import layout

EVALUATION_WAIT = "time/wait_for_evaluation_s"


class Engines(Protocol):
    """The rollout workers, as the learner sees them."""

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Return when at least one holds `weights`."""

    async def stats(self) -> Metrics:
        """Counters since the last call."""


class Publications:
    """Gives versions of the weights to the engines, one after the other.

    Args:
        config: The run's.
        ranks: Whose weights are published.
        tracker: Is told of the phase.
        engines: None where nothing is sampled: then only the numbers go on.
        evaluate: Evaluates what the engines hold, of the given version; None where others do that.

    Attributes:
        version: What engines were last given; -1 before the first publication.
        begin: Step at which the period that `version` feeds begins; later than `version` when that
            was published ahead.
        is_point: Whether `version` is to be evaluated.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        ranks: Ranks,
        tracker: Tracker,
        engines: Engines | None,
        evaluate: Callable[[int], Awaitable[Any]] | None,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._tracker = tracker
        self._engines = engines
        self._evaluate = evaluate
        self._samples = samples(config)  # else engines only evaluate, and are given what they need
        self._given = -1  # the version that engines were given last
        self._count = 0
        self._weights: WeightsVersion | None = None
        self._loading: asyncio.Task[Any] | None = None
        self._values: Metrics = {}
        self._evaluated_since = math.inf  # when the evaluation of the last publication began
        self._is_abandoned = False
        self.is_point = False
        self.version = -1
        self.begin = -1

    async def publish(self, step: int, begin: int) -> None:
        """Export the learner's weights as a version, for a period that it feeds.

        Engines load them before this returns, or, while there is something else to train on, beside
        training: ahead of the period, or where the buffer has groups of the version before.

        Args:
            step: Learner steps made: the version.
            begin: Step at which the period begins.
        """
        await self.settle()
        self._count += 1
        started = time.monotonic()
        self.is_point = self._is_due(step, begin)
        is_evaluated = self.is_point and self._evaluate is not None
        if self._engines is not None and (self._samples or is_evaluated):
            self._tracker.phase("publish")
            give = partial(self._give, self._engines, started)
            self._given = step
            self._weights = await self._export(step, self._loaded_by(give))
        self.version, self.begin = step, begin
        keeps_groups = self._config.replay.max_versions > 1 and not is_evaluated
        if begin <= step and not keeps_groups:
            await self.settle()
        self._tracker.phase("train")

    async def publish_last(self, step: int) -> None:
        """Give the final weights to the engines for the last evaluation.

        Neither version nor phase changes, so that a run resumed with a larger `run.max_steps` goes
        on as if it had never stopped.
        """
        await self.settle()
        if self._engines is not None and self._given != step:
            self._given = step
            await self._export(step, self._loaded_by(self._engines.load))
            await self.settle()

    async def send_aside(
        self, step: int, start: Callable[[WeightsVersion], asyncio.Task[Any]]
    ) -> None:
        """Export the learner's weights for engines set aside alone; nobody else loads them.

        Args:
            step: Learner steps made.
            start: Begins their load.
        """
        await self._export(step, start, is_aside=True)

    async def settle(self) -> None:
        """Wait for the last publication, its evaluation included; raise what went wrong with it."""
        if self._loading is not None:
            since = time.monotonic()
            await asyncio.wait({self._loading})
            self._count_wait(since)
            loading, self._loading = self._loading, None
            if not loading.cancelled():
                loading.result()

    def abandon(self) -> None:
        """Wait for engines and their evaluation no more, now and later: the run is to stop."""
        self._is_abandoned = True
        if self._loading is not None:
            self._loading.cancel()

    async def close(self) -> None:
        """Leave nothing running, and no error untold to the event loop."""
        self.abandon()
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)

    async def check(self) -> None:
        """Raise what went wrong with the last publication, if it has ended."""
        if self._loading is not None and self._loading.done():
            await self.settle()

    def num_periods(self, step: int) -> int:
        """Periods that have ended by `step`, the end of one; the next may have been fed ahead."""
        return self._count - (self.begin == step)

    def stats(self) -> Metrics:
        """What happened since the last call: size, seconds and probe of what engines loaded."""
        values, self._values = self._values, {}
        return values

    @property
    def served(self) -> WeightsVersion | None:
        """The publication that engines were last given, where they collect under it."""
        is_present = self._weights is not None and self._weights.version == self.version
        return self._weights if is_present else None

    def state(self) -> State:
        """The numbers to go on from, as JSON can hold them."""
        return {"version": self.version, "begin": self.begin, "publications": self._count}

    async def save(self, part: Path, step: int) -> None:
        """Keep the weights that engines serve, where a resumed learner could not make them again.

        Args:
            part: Folder of the checkpoint that is being written.
            step: Learner steps made.
        """
        if self._samples and self._weights is not None and not self._serves_own(step):
            await asyncio.to_thread(published.save, part, self._weights, self._config)

    async def restore(self, path: Path, state: State, step: int) -> None:
        """Go on from a checkpoint: engines are given what they served.

        Whether that were the learner's own weights is the checkpoint's word, for `sync.interval`
        may be another now: then nothing is published here, and `oapl.loops.learn` does it.

        Args:
            path: The checkpoint.
            state: From `state`.
            step: Learner steps made.

        Raises:
            CheckpointError: The weights that engines served cannot be read.
        """
        self._count = state["publications"]
        self.version, self.begin = state["version"], state["begin"]
        if self._engines is None or not self._samples:
            return
        if published.exists(path):
            self._weights = await asyncio.to_thread(published.load, path, self._config)
            self._given = self._weights.version
            await self._engines.load(self._weights)
        else:
            self._count -= self.version == step  # it is made again
            self.version = self.begin = -1

    def _loaded_by(
        self, load: Callable[[WeightsVersion], Coroutine[Any, Any, Any]]
    ) -> Callable[[WeightsVersion], asyncio.Task[Any]]:
        def start(weights: WeightsVersion) -> asyncio.Task[Any]:
            self._loading = asyncio.create_task(load(weights))
            if self._is_abandoned:
                self._loading.cancel()
            return self._loading

        return start

    async def _export(
        self,
        step: int,
        start: Callable[[WeightsVersion], asyncio.Task[Any]],
        *,
        is_aside: bool = False,
    ) -> WeightsVersion:
        """Publish, and return when all has left the learner; engines load meanwhile and after."""
        trainers = self._ranks.trainers
        kind = (True,) if is_aside else ()
        calls = [trainer.announce(step, *kind) for trainer in trainers]
        announced = (await self._ranks.gather(calls, "an export", step))[0]
        assert announced is not None, "rank 0 answers with what it will publish"
        numbers = range(len(layout(announced.specs)))
        chunks = [[trainer.promise("send_chunk", n) for trainer in trainers] for n in numbers]
        scores = [trainer.promise("score_probe") for trainer in trainers]
        weights = replace(
            announced, chunks=tuple(row[0] for row in chunks), probe_logprobs=scores[0]
        )
        loading = start(weights)
        try:
            for row in (*chunks, scores):
                await self._ranks.gather(row, "an export", step)
        except BaseException:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            self._loading = None if loading is self._loading else self._loading
            raise
        return weights

    async def _give(self, engines: Engines, started: float, weights: WeightsVersion) -> None:
        """Wait until an engine holds `weights`; evaluate them when due."""
        is_due = self.is_point
        report = await engines.load(weights)
        self._values |= {
            "weights/version": weights.version,
            "weights/bytes": weights.num_bytes,
            "weights/probe": report.ratio,
            "weights/load_s": report.load_s,
            "time/publish_s": time.monotonic() - started,
        }
        if is_due and self._evaluate is not None:
            self._evaluated_since = time.monotonic()
            await self._evaluate(weights.version)

    def _count_wait(self, since: float) -> None:
        """Count for how long an evaluation was awaited by a wait that began then."""
        waited = max(0.0, time.monotonic() - max(since, self._evaluated_since))
        self._evaluated_since = math.inf
        before = self._values.get(EVALUATION_WAIT, 0.0)
        self._values[EVALUATION_WAIT] = before + waited

    def _is_due(self, version: int, begin: int) -> bool:
        """Whether the latest publication, of `version` for what begins then, is evaluated."""
        section = self._config.eval
        if version == 0:
            return True
        if section.every_syncs:
            return (self._count - 1) % section.every_syncs == 0
        is_by_steps = bool(section.every_steps and not section.engines)
        return is_by_steps and begin % section.every_steps == 0

    def _serves_own(self, step: int) -> bool:
        """Whether engines hold the learner's own weights, or are given them before anything else.

        Not at the end of a period whose successor was served ahead.
        """
        is_boundary = step % self._config.sync.interval == 0
        return is_boundary and (self.begin < step or self.version == step)

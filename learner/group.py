"""LearnerGroup: the asynchronous front of the trainer ranks, and the acts of `oapl.loops.learn`.

Invariants: it owns the learner step and the version that engines are to hold, and is the only
writer of metrics; all ranks are called together; a checkpoint holds the weights that engines serve
whenever they are not the learner's own; a publication ahead of its period, or of a version beside
others, keeps the learner from its next step only while the weights are exported.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from learner.checkpoints import published, snapshots
from oapl import batching
from oapl.config import RunConfig
from oapl.config.objective import is_judged
from oapl.errors import CheckpointError, DiedError, DivergedError, OaplError, RankError
from oapl.interfaces import Batches, Tracker, Trainer
from oapl.records import CreditedGroup, Metrics, ProbeReport, StepMetrics, WeightsVersion
from oapl.weights.base import layout

T = TypeVar("T")

FAREWELL_S = 10.0
"""When one rank has failed, how long the others have to say that they died: a rank that lost its
peer in a collective often speaks first."""


class Engines(Protocol):
    """The rollout workers, as the learner sees them."""

    async def load(self, weights: WeightsVersion) -> ProbeReport: ...

    async def stats(self) -> Metrics: ...


class Rewards(Protocol):
    """The reward servers, as the learner sees them."""

    async def stats(self) -> Metrics: ...


class Store(Protocol):
    """Where a sample of the trained groups is kept."""

    def add(self, groups: Sequence[CreditedGroup], step: int) -> None: ...

    def save_all(self, groups: Sequence[CreditedGroup], path: Path) -> None: ...

    def flush(self) -> None: ...


class LearnerGroup:
    """Owns the learner step; see `oapl.loops.Learner` for the acts.

    Attributes:
        step: Learner steps made, skipped ones included.
        version: What engines were last given; -1 before the first publication.
        begin: Step at which the period that `version` feeds begins; later than `version` when that
            was published ahead.
        last_checkpoint: The one that was written or restored last.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        trainers: Sequence[Trainer],
        replay: Batches,
        tracker: Tracker,
        store: Store,
        engines: Engines | None = None,
        rewards: Rewards | None = None,
        evaluate: Callable[[str], Awaitable[Metrics]] | None = None,
    ) -> None:
        self._config = config
        self._trainers = trainers
        self._replay = replay
        self._tracker = tracker
        self._store = store
        self._engines = engines
        self._rewards = rewards
        self._evaluate = evaluate
        self._folder = config.folder / "checkpoints"
        self._weights: WeightsVersion | None = None
        self._values: Metrics = {}
        self._since = time.monotonic()
        self._last_save = time.monotonic()
        self._last_saved_step = -1
        self._num_publications = 0
        self._loading: asyncio.Task[Any] | None = None
        self._counting: asyncio.Task[None] | None = None
        self.step = 0
        self.version = -1
        self.begin = -1
        self.last_checkpoint: Path | None = None

    def count_restart(self) -> None:
        """These ranks replace others that failed: to be told in the next line of metrics."""
        self._values["faults/learner_restarts"] = 1.0

    async def checkpoint_if_due(self) -> None:
        """At the end of a period.

        Without a lead the learner's weights are served next, and replay holds nothing now but what
        `replay.max_versions` keeps.
        """
        every = self._config.checkpoint.every_syncs
        came_ahead = self.begin == self.step
        due = every and (self._num_publications - came_ahead) % every == 0
        if due and self.step > 0 and self.step != self._last_saved_step:
            await self.checkpoint()

    async def publish(self, begin: int) -> None:
        """Export the learner's weights as version `step`, for the period that begins at `begin`.

        Engines load them before this returns, or, while there is something else to train on, beside
        training: ahead of the period, or where the buffer has groups of the version before.
        """
        await self._settle()
        self._num_publications += 1
        started = time.monotonic()
        if self._engines is not None:
            self._tracker.phase("publish")
            await self._export(partial(self._give, self._engines, started))
        self.version, self.begin = self.step, begin
        keeps_groups = self._config.replay.max_versions > 1 and not self._is_evaluated(self.version)
        if begin <= self.step and not keeps_groups:
            await self._settle()
        self._tracker.phase("train")

    async def _give(self, engines: Engines, started: float, weights: WeightsVersion) -> None:
        """Wait until an engine holds `weights`; evaluate them when due."""
        self._weights = weights
        is_due = self._is_evaluated(weights.version)
        report = await engines.load(weights)
        self._values |= {
            "weights/version": weights.version,
            "weights/bytes": weights.num_bytes,
            "weights/probe": report.ratio,
            "weights/load_s": report.load_s,
            "time/publish_s": time.monotonic() - started,
        }
        if is_due:
            await self._evaluate_at(weights.version)

    def _is_evaluated(self, version: int) -> bool:
        """Whether the latest publication, of `version`, is evaluated."""
        every = self._config.eval.every_syncs
        return version == 0 or bool(every and (self._num_publications - 1) % every == 0)

    async def _settle(self) -> None:
        """Wait for the last publication, and raise what went wrong with it."""
        if self._loading is not None:
            await self._loading
            self._loading = None

    async def evaluate(self) -> Metrics:
        """Evaluate what the engines hold; a line of metrics of its own at the present step."""
        return await self._evaluate_at(self.step)

    async def _evaluate_at(self, step: int) -> Metrics:
        if self._evaluate is None:
            return {}
        if self.begin <= self.step:  # else it goes on beside training
            self._tracker.phase("evaluate")
        metrics = await self._evaluate(f"step-{step}")
        self._tracker.log(StepMetrics(step=step, values=metrics))
        return metrics

    async def publish_last(self) -> None:
        """Give the final weights to the engines for the last evaluation.

        Neither version nor phase changes, so that a run resumed with a larger `run.max_steps` goes
        on as if it had never stopped.
        """
        await self._settle()
        if self._engines is not None and self.version != self.step:
            await self._export(self._engines.load)
            await self._settle()

    async def update(self, groups: Sequence[CreditedGroup]) -> bool:
        """One learner step on all ranks.

        Returns:
            False when it was skipped for a non-finite loss or gradient.

        Raises:
            DivergedError: Too many were skipped in a row; the groups have been saved.
        """
        if self._loading is not None and self._loading.done():
            await self._settle()
        now = time.monotonic()
        waited = self._values["time/wait_for_batch_s"] = now - self._since
        batches = batching.shard(
            groups,
            step=self.step,
            num_ranks=len(self._trainers),
            micro_batch_tokens=self._config.learner.micro_batch_tokens,
            row_tokens=self._config.learner.row_tokens,
        )
        try:
            updates = [t.update(b) for t, b in zip(self._trainers, batches, strict=True)]
            metrics = (await self._all(updates, "a learner step"))[0]
        except DivergedError:
            self._store.save_all(groups, self._config.folder / f"diverged-step-{self.step}.parquet")
            raise
        self.step += 1
        took = time.monotonic() - now
        # Beside the closing of the leases.
        self._counting = asyncio.create_task(self._count_engines(waited, took))
        self._store.add(groups, self.step)
        self._values |= metrics
        if is_judged(self._config):
            rewards = [reward for group in groups for reward in group.scored.rewards]
            self._values["reward/trained_mean"] = float(sum(rewards) / len(rewards))
        return not metrics.get("faults/skipped_steps")

    async def report(self) -> None:
        """Collect every owner's counters and write the line of this step; save when overdue."""
        replay, rewards = await asyncio.gather(self._replay.stats(), self._reward_stats())
        if self._counting is not None:
            await self._counting
            self._counting = None
        values = {**self._values, **replay, **rewards}
        now = time.monotonic()
        step_s, self._since = now - self._since, now
        waited = values["time/wait_for_batch_s"]
        values["time/step_s"] = step_s
        values["idle/learner"] = min(waited / step_s, 1.0)
        _derive_engine_rates(values, self._config.rollout.num_engines, step_s)
        self._values = {}
        self._tracker.log(StepMetrics(step=self.step, values=values))
        minutes = self._config.checkpoint.max_minutes
        if minutes and now - self._last_save > 60 * minutes:
            await self.checkpoint()

    async def checkpoint(self) -> Path:
        """Save everything that affects the next step; see `snapshots` for what a killed save does.

        Called between two steps: no group is leased. A publication under way is awaited first, so
        that its evaluation is not lost.
        """
        await self._settle()
        started = time.monotonic()
        part = snapshots.begin(self._folder, self.step)
        await self._all([t.save(part / "trainer") for t in self._trainers], "a checkpoint")
        (part / "replay.pkl").write_bytes(pickle.dumps(await self._replay.snapshot()))
        if self._weights is not None and not self._serves_its_own():
            await asyncio.to_thread(published.save, part, self._weights, self._config)
        state = {
            "step": self.step,
            "version": self.version,
            "begin": self.begin,
            "publications": self._num_publications,
        }
        (part / "state.json").write_text(json.dumps(state))
        self._store.flush()
        path = await asyncio.to_thread(snapshots.commit, part, self.step)
        snapshots.prune(self._folder, self._config.checkpoint.keep)
        self._last_save, self._last_saved_step = time.monotonic(), self.step
        self.last_checkpoint = path
        self._values["time/checkpoint_s"] = self._last_save - started
        return path

    async def restore(self, path: Path) -> None:
        """Go on from a checkpoint, in new processes.

        Raises:
            CheckpointError: It is damaged, or of another run's shape.
        """
        await asyncio.to_thread(snapshots.verify, path)
        state = json.loads((path / "state.json").read_text())
        await self._all([t.load(path / "trainer") for t in self._trainers], "the checkpoint")
        await self._replay.restore(pickle.loads((path / "replay.pkl").read_bytes()))
        self.step = self._last_saved_step = state["step"]
        self.last_checkpoint = path
        snapshots.set_aside(self._folder, self.step)
        self._num_publications = state["publications"]
        self.version, self.begin = state["version"], state["begin"]
        if self._serves_its_own():
            self.version = self.begin = -1  # `learn` publishes the learner's own weights
        elif self._engines is not None:
            if not published.exists(path):
                raise CheckpointError(f"checkpoint {path} lacks the weights that engines served")
            self._weights = await asyncio.to_thread(published.load, path, self._config)
            await self._engines.load(self._weights)

    def _serves_its_own(self) -> bool:
        """Whether engines hold the learner's own weights, or are given them before anything else.

        Not at the end of a period whose successor was served ahead.
        """
        is_boundary = self.step % self._config.sync.interval == 0
        return is_boundary and (self.begin < self.step or self.version == self.step)

    async def save_model(self, path: Path) -> None:
        """The present policy as Hugging Face safetensors."""
        await self._all([t.save_model(path) for t in self._trainers], "the model to be saved")

    async def _export(self, load: Callable[[WeightsVersion], Coroutine[Any, Any, Any]]) -> None:
        """Publish, and return when all has left the learner; engines load meanwhile and after."""
        announced = await self._all([t.announce(self.step) for t in self._trainers], "an export")
        weights = announced[0]
        assert weights is not None, "rank 0 answers with what it will publish"
        calls = [("send_chunk", number) for number in range(len(layout(weights.specs)))]
        promised = [[t.promise(*call) for t in self._trainers] for call in calls]
        scores = [t.promise("score_probe") for t in self._trainers]
        weights = replace(
            weights, chunks=tuple(row[0] for row in promised), probe_logprobs=scores[0]
        )
        self._loading = asyncio.create_task(load(weights))
        try:
            for row in (*promised, scores):
                await self._all(row, "an export")
        except BaseException:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None
            raise

    async def _reward_stats(self) -> Metrics:
        return {} if self._rewards is None else await self._rewards.stats()

    async def _count_engines(self, waited: float, took: float) -> None:
        """The engines' counters; what they were busy beyond the wait is, at least, the overlap."""
        if self._engines is not None:
            counters = await self._engines.stats()
            self._values |= counters
            both = counters.get("engine/busy_s", 0.0) - waited
            self._values["time/both_working_s"] = min(max(both, 0.0), took)

    async def _all(self, calls: Sequence[Awaitable[T]], what: str) -> list[T]:
        """What each rank answers.

        Raises:
            RankError: One died, did not answer in time, or failed unforeseen.
            OaplError: What a living rank raised on purpose.
        """
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.wait(
                tasks, timeout=self._config.sync.timeout_s, return_when=asyncio.FIRST_EXCEPTION
            )
            if not all(task.done() and task.exception() is None for task in tasks):
                await _hear_all(tasks)
                raise self._failure(tasks, what)
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _failure(self, tasks: Sequence[asyncio.Future[Any]], what: str) -> Exception:
        """Names the rank to blame, when several failed because of it."""
        errors = {rank: error for rank, task in enumerate(tasks) if (error := _error(task))}
        dead = [rank for rank, error in errors.items() if isinstance(error, DiedError)]
        for error in errors.values():
            if isinstance(error, OaplError) and not dead:
                return error
        if dead:
            ranks, how, cause = dead, "died", errors[dead[0]]
        elif errors:
            cause = next(iter(errors.values()))
            ranks, how = list(errors), f"failed ({type(cause).__name__}: {cause})"
        else:
            ranks = [rank for rank, task in enumerate(tasks) if not task.done()]
            how = f"did not answer within {self._config.sync.timeout_s:g} s (sync.timeout_s)"
            cause = None
        who = ", ".join(map(str, ranks))
        failure = RankError(
            f"learner rank {who} of {len(tasks)} {how} after step {self.step}, asked for {what}; "
            f"see {self._config.folder / 'logs'}/trainer-{ranks[0]}.log"
        )
        failure.__cause__ = cause
        return failure


async def _hear_all(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait, once one has failed, until one is known to have died or all have spoken."""
    deadline = time.monotonic() + FAREWELL_S
    waiting = {task for task in tasks if not task.done()}
    while waiting and any(map(_error, tasks)):
        if any(isinstance(_error(task), DiedError) for task in tasks):
            return
        left = deadline - time.monotonic()
        done, waiting = await asyncio.wait(
            waiting, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return


def _error(task: asyncio.Future[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _derive_engine_rates(values: dict[str, Any], num_engines: int, step_s: float) -> None:
    busy = values.pop("engine/busy_s", None)
    values.pop("engine/idle_s", None)
    if busy is not None:
        values["idle/engines"] = max(0.0, 1.0 - busy / (num_engines * step_s))
        values["rollout/tokens_per_s"] = values.get("rollout/tokens", 0.0) / step_s

"""LearnerGroup: the asynchronous front of the trainer ranks, and the acts of `oapl.loops.learn`.

Invariants: it owns the learner step and is the only writer of metrics; what every owner counted is
collected once a step; a checkpoint is taken between two iterations, when no group is leased and no
publication is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from learner.alarming import Alarming
from learner.books import Books, Past
from learner.checkpoints import contents, origin, snapshots
from learner.evaluations import Beside
from learner.kept_models import KeptModels
from learner.moving_on import MovingOn
from learner.publication import EVALUATION_WAIT, Engines, Publications
from learner.ranks import Ranks
from learner.resets import Resets
from oapl import accounting, batching
from oapl.config import RunConfig
from oapl.config.objective import is_prepared
from oapl.errors import DivergedError
from oapl.interfaces import Batches, Tracker, Trainer
from oapl.objectives.base import build as build_objective
from oapl.records import (
    Batch,
    CreditedGroup,
    Metrics,
    MiniBatch,
    ScoredGroup,
    State,
    StepMetrics,
)
from oapl.remote.waiting import both
from oapl.tracking.history import evaluations

STATES_OF_ENGINES = ("engine/busy_s", "engine/idle_s")
"""Counters that are told as `seconds/engines/STATE` and as `idle/engines`."""


class Rewards(Protocol):
    """The reward servers, as the learner sees them."""

    async def stats(self) -> Metrics:
        """Counters since the last call."""


class Store(Protocol):
    """Where trained groups are kept."""

    def add(self, groups: Sequence[CreditedGroup], step: int) -> None:
        """Keep of the groups that learner step `step` was made of."""

    def save_all(self, groups: Sequence[CreditedGroup], folder: Path) -> None:
        """Write every rollout of `groups` into a set of its own."""

    def flush(self) -> None:
        """Write what is held."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """Batches of the groups with these ids, one per rank, for one learner step."""

    step: int
    ids: list[str]
    batches: list[Batch]


class LearnerGroup:
    """Owns the learner step; see `oapl.interfaces.Learner` for the acts.

    Args:
        config: The run's.
        trainers: In the order of the ranks.
        replay: What `groups` were taken from: its counters and its snapshot.
        tracker: Takes the lines of metrics.
        store: Keeps a sample of what is trained on.
        engines: None where nothing is sampled.
        rewards: None where nothing is judged.
        evaluate: Evaluates what the engines hold, or those set aside where there are such, under a
            name; None without evaluation sets.
        aside: The engines that evaluate beside training: those set aside, or `evaluations.Running`;
            None where the learner waits for evaluations.
        evaluate_beside: Evaluates there, where that is done otherwise than at the end.
        foresee: Tells what the next take of so many groups will give; None where nobody knows.
        first: Learner steps that the stages before this one have made. Here and in whatever makes
            the steps they count from the stage's beginning; what is written counts these too.
        moving: Says when this stage ends early; None where a run has no stages.
        keeps_in: Folder of the policies that are kept beside the last one; None: the run's.
        past: What is written of the run; None: nothing.

    Attributes:
        step: Learner steps made, skipped ones included.
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
        aside: Engines | None = None,
        evaluate_beside: Callable[[str], Awaitable[Metrics]] | None = None,
        foresee: Callable[[int], Sequence[CreditedGroup]] | None = None,
        first: int = 0,
        moving: MovingOn | None = None,
        keeps_in: Path | None = None,
        past: Past | None = None,
    ) -> None:
        self._config = config
        self._ranks = Ranks(config, trainers)
        self._replay = replay
        self._tracker = tracker
        self._books = Books(config, past)
        self._watch = self._books.watch
        self._store = store
        self._engines = engines
        self._rewards = rewards
        self._evaluate = evaluate
        self._evaluate_beside = evaluate_beside or evaluate
        self._foresee = foresee
        self._packed: _Packed | None = None  # for the step that follows
        self._first = first
        self._moving = moving
        self._publications = Publications(
            config,
            ranks=self._ranks,
            tracker=tracker,
            engines=engines,
            evaluate=self._evaluate_at if aside is None else None,
        )
        self._beside = None if aside is None else self._beside_training(aside)
        self._objective = build_objective(config.objective).declares
        self._resets = Resets(
            config.reference, config.folder, self._objective.history, config.steps_per_take
        )
        self._kept = KeptModels(
            config, self.save_model, tracker.message, folder=keeps_in or config.folder
        )
        self._end: Callable[[], None] = lambda: None
        self._alarms = Alarming(
            config,
            tracker,
            {"stop": lambda _: self._end(), "reset_reference": self._resets.ask},
            [row for row in past.rows if (row["step"] or 0) > first and "time/step_s" in row]
            if past
            else (),
        )
        self._groups: Sequence[CreditedGroup] = ()  # of the last learner step
        self._left = 0  # learner steps of the iteration under way
        self._folder = config.folder / "checkpoints"
        self._origins = origin.origins_of(config)
        self._values: Metrics = {}
        self._late: Metrics = {}  # counters that no step will report
        self._since = time.monotonic()
        self._last_save = time.monotonic()
        self._last_saved_step = -1
        self._counting: asyncio.Task[None] | None = None
        self._has_told = False  # of a prompt that failed
        self.step = 0
        self.last_checkpoint: Path | None = None

    @property
    def version(self) -> int:
        """What engines were last given; -1 before the first publication."""
        return self._publications.version

    @property
    def begin(self) -> int:
        """Step at which the period that `version` feeds begins; -1 before the first publication."""
        return self._publications.begin

    @property
    def total(self) -> int:
        """Learner steps of the run, those of the stages before included."""
        return self._first + self.step

    def _beside_training(self, engines: Engines) -> Beside:
        """What evaluates there; nothing of it is read before its first point."""
        return Beside(
            engines,
            send=self._publications.send_aside,
            evaluate=self._scores_beside,
            before=lambda step: self._kept.before_scores(self._first + step),
            saw=self._saw,
            after=lambda step: self._kept.after_scores(self._first + step),
            tell=self._tracker.message,
            first=self._first,
        )

    def ends_by(self, end: Callable[[], None]) -> None:
        """Say what an alarm calls that shall stop the run, between two iterations."""
        self._end = end

    def count_restarts(self, number: int) -> None:
        """Note for the next line of metrics how often ranks were replaced by others."""
        if number:
            self._values["faults/learner_restarts"] = float(number)

    async def checkpoint_if_due(self) -> None:
        """Save at the end of a period, every `checkpoint.every_syncs` of them.

        Without a lead the learner's weights are served next, and replay holds nothing now but what
        `replay.max_versions` keeps.
        """
        every = self._config.checkpoint.every_syncs
        due = every and self._publications.num_periods(self.step) % every == 0
        if due and self.step > 0 and self.step != self._last_saved_step:
            await self.checkpoint()

    async def publish(self, begin: int) -> None:
        """Give the weights of `step` to the engines; see `Publications.publish`."""
        if not self.step:
            self._kept.begins(self.total)
        if self._beside is not None and self._config.eval.slots:
            await self._beside.cut("it has outlasted its period; raise eval.slots, or ask less")
        if self._watch.state not in accounting.SETTING_UP:  # the first waits for engines to start
            self._watch.enter(accounting.PUBLISH)
        await self._publications.publish(self.step, begin)
        self._watch.enter(accounting.CHECKPOINT)
        if self._beside is None:
            await self._kept.evaluated(self.total)
        elif self._publications.is_point and self._beside.is_new(self.step):
            await self._beside.begin(self.step, self._publications.served)
        waits = accounting.DATA if self._engines is None else accounting.SYNCHRONISE
        self._watch.enter(waits)

    async def evaluate_if_due(self) -> None:
        """Begin an evaluation beside training, every `eval.every_steps`."""
        section = self._config.eval
        every = section.every_steps if section.engines else 0
        if self._beside is None or not every or self.step % every:
            return
        if self._beside.is_new(self.step):
            served = self._publications.served
            is_own = served is not None and served.version == self.step
            await self._beside.begin(self.step, served if is_own else None)

    async def await_evaluation(self) -> None:
        """Wait for the one under way beside training."""
        if self._beside is not None:
            with self._watch.within(accounting.EVALUATE):
                await self._beside.settle()

    async def evaluate(self) -> Metrics:
        """Evaluate what the engines hold; a line of metrics of its own at the present step."""
        with self._watch.within(accounting.EVALUATE):
            metrics = await self._evaluate_at(self.step)
            await self._kept.evaluated(self.total)
        if self._engines is not None:
            self._late = await self._engines.stats()
        return metrics

    async def _evaluate_at(self, step: int) -> Metrics:
        if self._evaluate is not None and self.begin <= self.step:  # else it is beside training
            self._tracker.phase("evaluate")
        with self._watch.instead(accounting.AWAITS_EVALUATION, accounting.EVALUATE):
            metrics = await self._scores_at(step)
        if self._evaluate is not None:
            self._saw(step, metrics)
        return metrics

    async def _scores_at(self, step: int) -> Metrics:
        """Evaluate the weights of a step, which engines hold."""
        if self._evaluate is None:
            return {}
        return await self._evaluate(f"step-{self._first + step}")

    async def _scores_beside(self, step: int) -> Metrics:
        """The same beside training."""
        if self._evaluate_beside is None:
            return {}
        return await self._evaluate_beside(f"step-{self._first + step}")

    def _saw(self, step: int, metrics: Metrics) -> None:
        """Tell scores, and give them to all that decides by them."""
        self._tracker.log(StepMetrics(step=self._first + step, values=metrics))
        self._take_in(step, metrics)

    def _take_in(self, step: int, metrics: Metrics) -> None:
        self._resets.saw_evaluation(metrics)
        self._kept.saw_evaluation(self._first + step, metrics)
        if self._moving is not None:
            self._moving.saw_evaluation(metrics)
            self._moving.look()

    async def publish_last(self) -> None:
        """Give the final weights to the engines; see `Publications.publish_last`."""
        await self.await_evaluation()
        with self._watch.within(accounting.PUBLISH):
            if self._beside is not None and self._config.eval.engines:
                await self._beside.hold(self.step)
            else:
                await self._publications.publish_last(self.step)

    async def prepare(self, groups: Sequence[CreditedGroup]) -> list[MiniBatch]:
        """Divide a take; see `oapl.interfaces.Learner.prepare`. A reset that is due comes first.

        With one learner step per take the ranks are not asked, unless the objective reads the
        answer before it: the policy before the first update is the one that is updated.
        """
        self._watch.enter(accounting.PREPARE)
        self._books.takes += 1
        self._values["time/wait_for_batch_s"] = time.monotonic() - self._since
        if "reference" in self._objective.needs:
            await self._reset_reference_if_due()
        parts = [
            MiniBatch(groups=part, number=number)
            for number, part in enumerate(batching.divide(groups, self._config.groups_per_step))
        ]
        steps = parts * self._config.learner.updates_per_batch
        self._left = len(steps)
        if is_prepared(self._objective.needs, self._config.steps_per_take):
            by_part = [self._shard(part) for part in parts]
            calls = [
                trainer.prepare([batches[rank] for batches in by_part])
                for rank, trainer in enumerate(self._ranks.trainers)
            ]
            self._values |= (await self._ranks.gather(calls, "an iteration", self.step))[0]
        return steps

    async def _reset_reference_if_due(self) -> None:
        """A reincarnation keeps the optimizer, unless a reset of another cause is due with it."""
        other = self._resets.due(self.step)
        cause = other or self._resets.reincarnation(self.step)
        if not cause:
            return
        calls = [t.reset_reference(keeps_optimizer=not other) for t in self._ranks.trainers]
        await self._ranks.gather(calls, "a reset of the reference", self.step)
        self._resets.done(self.step)
        self._values["reference/resets"] = 1.0
        self._tracker.message(f"step {self.total}: the reference is set anew ({cause})")

    async def update(self, part: MiniBatch) -> bool:
        """Make one learner step on all ranks.

        Raises what went wrong with a publication or an evaluation beside training, too.

        Args:
            part: One step's groups, credited.

        Returns:
            False when it was skipped for a non-finite loss or gradient.

        Raises:
            DivergedError: Too many were skipped in a row; the groups have been saved.
        """
        self._watch.enter(accounting.UPDATE)
        await self._publications.check()
        if self._beside is not None:
            await self._beside.check()
        now = time.monotonic()
        waited = self._values.setdefault("time/wait_for_batch_s", now - self._since)
        batches, groups = self._shard(part), part.groups
        try:
            updates = [t.update(b) for t, b in zip(self._ranks.trainers, batches, strict=True)]
            updating = self._ranks.gather(updates, "a learner step", self.step)
            (metrics, *_), _ = await both(updating, self._pack_ahead())
        except DivergedError:
            self._store.save_all(groups, self._config.folder / f"diverged-step-{self.total}")
            raise
        self._watch.enter(accounting.OTHER)
        self.step += 1
        self._left -= 1
        self._groups = groups
        took = time.monotonic() - now
        # Beside the closing of the leases.
        self._counting = asyncio.create_task(self._count_engines(waited, took))
        self._store.add(groups, self.total)
        self._values |= metrics
        rewards = [reward for group in groups for reward in _rewards(group.scored)]
        if rewards:
            self._values["reward/trained_mean"] = sum(rewards) / len(rewards)
        return not metrics.get("faults/skipped_steps")

    async def _pack_ahead(self) -> None:
        """Where it is known what the next take gives, and that is one step's, pack it while the
        ranks compute."""
        if self._foresee is None or self._config.steps_per_take > 1:
            return
        await asyncio.sleep(0)  # a call is sent when its coroutine is first run
        groups = tuple(self._foresee(self._config.groups_per_step))
        if groups:
            step, part = self.step + 1, MiniBatch(groups=groups, number=0)
            self._packed = _Packed(step, [g.id for g in groups], self._batches(part, step))

    def _shard(self, part: MiniBatch) -> list[Batch]:
        packed = self._packed
        if packed and (packed.step, packed.ids) == (self.step, [g.id for g in part.groups]):
            return packed.batches
        return self._batches(part, self.step)

    def _batches(self, part: MiniBatch, step: int) -> list[Batch]:
        return batching.shard(
            part.groups,
            step=step,
            num_ranks=len(self._ranks.trainers),
            micro_batch_tokens=self._config.learner.micro_batch_tokens,
            row_tokens=self._config.learner.row_tokens,
            mini_batch=part.number,
            temperature=None if self._objective.at_temperature else 1.0,
        )

    async def report(self) -> None:
        """Collect every owner's counters and write the line of this step.

        After an iteration's last one, save when overdue.
        """
        replay, rewards = await asyncio.gather(self._replay.stats(), self._reward_stats())
        if self._counting is not None:
            await self._counting
            self._counting = None
        if replay.get("replay/failed") and not self._has_told:
            self._has_told = True
            cause = await self._replay.first_failure()
            self._tracker.message(f"a prompt failed: {cause}; replay/failed counts all that do")
        values = {**self._values, **self._publications.stats(), **replay, **rewards}
        if "weights/version" in values:
            values["weights/version"] += self._first
        now = time.monotonic()
        step_s, self._since = now - self._since, now
        waited = values["time/wait_for_batch_s"]
        values["time/step_s"] = step_s
        values["idle/learner"] = min(waited / step_s, 1.0)
        if self._beside is not None:
            values.setdefault(EVALUATION_WAIT, 0.0)
        self._books.close(values, self.total, now)
        _derive_engine_rates(values, self._config.num_collecting, step_s)
        self._values = {}
        values |= self._alarms.saw(self.total, values, self._groups)
        self._tracker.log(StepMetrics(step=self.total, values=values))
        self._resets.saw_step(values)
        if values.get("replay/spared"):
            self._tracker.message(
                f"step {self.total}: the filter has dropped as many groups as replay.max_dropped "
                f"allows in a period; {values['replay/spared']:.0f} that it would have dropped are "
                "trained on"
            )
        minutes = self._config.checkpoint.max_minutes
        is_between = self._left <= 0  # two iterations: no group is leased
        if is_between:
            await self._kept.iterated(values)
        if minutes and is_between and now - self._last_save > 60 * minutes:
            await self.checkpoint()
        if self._moving is not None and is_between:
            self._moving.look()
        self._watch.enter(accounting.DATA if is_between else accounting.OTHER)

    async def checkpoint(self) -> Path:
        """Save everything that affects the next step; see `snapshots` for what a killed save does.

        Called between two iterations: no group is leased. A publication under way is awaited
        first, so that its evaluation is not lost; one on engines set aside goes on.

        Returns:
            The checkpoint, `step-N`.
        """
        with self._watch.within(accounting.CHECKPOINT):
            return await self._checkpoint()

    async def _checkpoint(self) -> Path:
        await self._publications.settle()
        started = time.monotonic()
        await self._kept.before_checkpoint(self.total)
        part = snapshots.begin(self._folder, self.total)
        saves = [t.save(part / "trainer") for t in self._ranks.trainers]
        await self._ranks.gather(saves, "a checkpoint", self.step)
        contents.write_pickle(part / contents.REPLAY, await self._replay.snapshot())
        await self._publications.save(part, self.step)
        origin.write(part, self._origins)
        numbers = {"step": self.step, **self._publications.state()}
        states = {"resets": self._resets.state(), "kept": self._kept.state()}
        states |= {} if self._beside is None else {"evaluations": self._beside.state()}
        states |= {} if self._moving is None else {contents.STAGE: self._moving.state()}
        contents.write_state(part, {**numbers, **states})
        self._store.flush()
        path = await asyncio.to_thread(snapshots.commit, part, self.total)
        snapshots.prune(self._folder, self._config.checkpoint.keep, self._kept.spared)
        self._last_save, self._last_saved_step = time.monotonic(), self.step
        self.last_checkpoint = path
        self._values["time/checkpoint_s"] = self._last_save - started
        self._tracker.saved(path, self.total)
        return path

    async def restore(self, path: Path) -> None:
        """Go on from a checkpoint, in new processes.

        Raises:
            CheckpointError: The ranks' part is damaged or of another run's shape, or the rest is of
                another version of oapl. See `resuming.verify` for all of it.
        """
        state = contents.read_state(path)
        replay = contents.read_pickle(path / contents.REPLAY)
        loads = [t.load(path / "trainer") for t in self._ranks.trainers]
        await self._ranks.gather(loads, "the checkpoint", self.step)
        await self._replay.restore(replay)
        self.step = self._last_saved_step = state["step"]
        self.last_checkpoint = path
        self._resets.restore(state["resets"])
        self._kept.restore(state.get("kept", {}))
        self._kept.begins(self.total)
        if self._moving is not None and contents.STAGE in state:
            self._moving.restore(state[contents.STAGE])
        snapshots.set_aside(self._folder, self.total)
        await self._publications.restore(path, state, self.step)
        if self._beside is not None and "evaluations" in state:
            await self._go_on_evaluating(self._beside, state["evaluations"])

    async def _go_on_evaluating(self, beside: Beside, state: State) -> None:
        """See to the point that was under way; who decides by scores has not seen its own yet."""
        first = self._first
        known = {step - first: scores for step, scores in evaluations(self._config.folder)}
        cut = state["under_way"]
        scores = beside.restore(state, self.step, known, self._publications.served)
        if scores is not None:
            self._take_in(cut, scores)
        await self._kept.awaits(first + cut if beside.is_busy else None)

    async def take_over(self, path: Path, keeps: Collection[str]) -> bool:
        """Begin a stage with what the one before ended with, in new processes.

        Args:
            path: Its last checkpoint.
            keeps: What is not begun anew beside the weights: `optimizer`, `reference`, `data`. With
                neither of the first two the ranks have loaded the weights from `model.path`.

        Returns:
            False where the place in the data was to be kept, and that stage had other data.

        Raises:
            CheckpointError: As of `restore`.
        """
        contents.read_state(path)
        of_ranks = [part for part in keeps if part != "data"]
        if of_ranks:
            calls = [t.take_over(path / "trainer", of_ranks) for t in self._ranks.trainers]
            await self._ranks.gather(calls, "the stage before to be taken over", self.step)
        if "data" not in keeps:
            return True
        return await self._replay.take_over(contents.read_pickle(path / contents.REPLAY))

    def finish(self) -> None:
        """Note that no further step is made: what follows only ends the run."""
        self._watch.enter(accounting.FINISH)

    def abandon(self) -> None:
        """Wait for engines and their evaluation no more: the run is to stop."""
        self._publications.abandon()
        if self._beside is not None:
            self._beside.abandon()

    async def close(self) -> None:
        """Leave nothing running here, when no act is awaited any more."""
        await self._publications.close()
        if self._beside is not None:
            await self._beside.close()
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)
        self._close_books()

    def _close_books(self) -> None:
        """Write where the time went since the last line, however the run ends."""
        values = self._late
        self._books.close(values, self.total, time.monotonic())
        for name in STATES_OF_ENGINES:
            values.pop(name, None)
        with contextlib.suppress(OSError):  # a full disk may be why it ends, which others tell
            self._tracker.log(StepMetrics(step=self.total, values=values))

    async def save_model(self, path: Path) -> None:
        """Write the present policy as Hugging Face safetensors into the folder `path`."""
        saves = [t.save_model(path) for t in self._ranks.trainers]
        with self._watch.within(accounting.CHECKPOINT):
            await self._ranks.gather(saves, "the model to be saved", self.step)

    async def _reward_stats(self) -> Metrics:
        return {} if self._rewards is None else await self._rewards.stats()

    async def _count_engines(self, waited: float, took: float) -> None:
        """The engines' counters; what they were busy beyond the wait is, at least, the overlap."""
        aside = {} if self._beside is None else await self._beside.stats()
        counters = {} if self._engines is None else await self._engines.stats()
        self._values |= counters
        self._values |= {name: counters.get(name, 0.0) + value for name, value in aside.items()}
        if self._engines is not None:
            both = counters.get("engine/busy_s", 0.0) - waited
            self._values["time/both_working_s"] = min(max(both, 0.0), took)


def _rewards(scored: ScoredGroup) -> list[float]:
    """Of the rollouts that were judged: an example to imitate has no verdict."""
    judged = zip(scored.rewards, scored.verdicts, strict=True)
    return [float(reward) for reward, verdicts in judged if verdicts]


def _derive_engine_rates(values: dict[str, Any], num_engines: int, step_s: float) -> None:
    busy, _ = (values.pop(name, None) for name in STATES_OF_ENGINES)
    if busy is not None:
        values["idle/engines"] = max(0.0, 1.0 - busy / (num_engines * step_s))
        values["rollout/tokens_per_s"] = values.get("rollout/tokens", 0.0) / step_s

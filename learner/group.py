"""LearnerGroup: the asynchronous front of the trainer ranks, and the acts of `oapl.loops.learn`.

Invariants: it owns the learner step and is the only writer of metrics; what every owner counted is
collected once a step (`line`); a checkpoint is taken between two iterations, when no group is
leased and no publication is under way (`saving`). Evaluations are `scores`', and what decides by
them `deciders`'.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from learner.books import Books
from learner.checkpoints.resuming import step_of
from learner.deciders import Deciders
from learner.line import Line
from learner.packing import Packing
from learner.publication import Publications
from learner.ranks import Ranks
from learner.saving import Saving
from learner.scores import Scores
from learner.surroundings import Stage, Surroundings
from oapl import accounting, batching
from oapl.config import RunConfig
from oapl.config.objective import is_prepared
from oapl.errors import DivergedError
from oapl.interfaces import Trainer
from oapl.objectives.base import build as build_objective
from oapl.records import Batch, CreditedGroup, Metrics, MiniBatch, StepMetrics, TokenScores
from oapl.remote.waiting import both
from oapl.tracking.faults import FirstFaults


class LearnerGroup:
    """Owns the learner step; see `oapl.interfaces.Learner` for the acts.

    Args:
        config: The run's.
        trainers: In the order of the ranks.
        around: Whom it asks and tells.
        stage: Of the run.

    Attributes:
        step: Learner steps made, skipped ones included.
    """

    def __init__(
        self,
        config: RunConfig,
        trainers: Sequence[Trainer],
        around: Surroundings,
        stage: Stage | None = None,
    ) -> None:
        stage = stage or Stage()
        self.step = 0
        self._config, self._first = config, stage.first
        self._replay, self._tracker, self._store = around.replay, around.tracker, around.store
        self._groups: Sequence[CreditedGroup] = ()  # of the last learner step
        self._left = 0  # learner steps of the iteration under way
        self._has_told = False  # of a prompt that failed
        self._has_told_of_cost = False  # of checkpoints
        self._faults = FirstFaults()
        self._waits = accounting.DATA if around.engines is None else accounting.SYNCHRONISE
        self._objective = build_objective(config.objective).declares
        self._ranks = Ranks(config, trainers)
        self._packing = self._packed_for(around, stage)
        self._books = Books(config, stage.past)
        self._watch = self._books.watch
        self._deciders = Deciders(
            config,
            around.tracker,
            self.save_model,
            history=self._objective.history,
            stage=stage,
        )
        self._scores, self._publications = self._shown(around)
        self._line = Line(config, self._books, around, self._publications, self._scores)
        self._saving = Saving(
            config,
            ranks=self._ranks,
            replay=around.replay,
            publications=self._publications,
            scores=self._scores,
            deciders=self._deciders,
            first=stage.first,
        )

    def _packed_for(self, around: Surroundings, stage: Stage) -> Packing:
        """What divides a mini-batch among the ranks."""
        return Packing(
            self._config,
            len(self._ranks.trainers),
            at_temperature=self._objective.at_temperature,
            foresee=around.foresee,
            wanted=lambda groups, step: around.store.wanted(groups, stage.first + step + 1),
        )

    def _shown(self, around: Surroundings) -> tuple[Scores, Publications]:
        """What evaluates and what publishes, each of which asks the other."""
        scores = Scores(
            self._config,
            around.evaluators,
            send=lambda step, start: publications.send_aside(step, start),
            is_waited_for=lambda: self.begin <= self.step,
            tracker=around.tracker,
            deciders=self._deciders,
            watch=self._watch,
            first=self._first,
        )
        publications = Publications(
            self._config,
            ranks=self._ranks,
            tracker=around.tracker,
            engines=around.engines,
            evaluate=None if scores.are_beside else scores.at_publication,
        )
        return scores, publications

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

    @property
    def last_checkpoint(self) -> Path | None:
        """The one that was written or restored last."""
        return self._saving.last

    def ends_by(self, end: Callable[[], None]) -> None:
        """Say what an alarm calls that shall stop the run, between two iterations."""
        self._deciders.ends_by(end)

    def count_restarts(self, number: Mapping[str, int]) -> None:
        """Note for the next line of metrics how often all was started again.

        Args:
            number: By what was lost: rank, node, replay.
        """
        self._line.note({f"faults/{kind}_restarts": float(n) for kind, n in number.items()})

    async def publish(self, begin: int) -> None:
        """Give the weights of `step` to the engines; see `Publications.publish`."""
        if not self.step:
            self._deciders.kept.begins(self.total)
        await self._scores.before_publication()
        if self._watch.state not in accounting.SETTING_UP:  # the first waits for engines to start
            self._watch.enter(accounting.PUBLISH)
        publications = self._publications
        await publications.publish(self.step, begin)
        self._watch.enter(accounting.CHECKPOINT)
        await self._scores.after_publication(
            self.step, publications.served, is_point=publications.is_point
        )
        self._watch.enter(self._waits)

    async def publish_last(self) -> None:
        """Give the final weights to the engines; see `Publications.publish_last`."""
        await self.await_evaluation()
        with self._watch.within(accounting.PUBLISH):
            if not await self._scores.hold(self.step):
                await self._publications.publish_last(self.step)

    async def evaluate_if_due(self) -> None:
        """Begin an evaluation beside training, every `eval.every_steps`."""
        await self._scores.begin_if_due(self.step, self._publications.served)

    async def await_evaluation(self) -> None:
        """Wait for the one under way beside training."""
        await self._scores.settle()

    async def evaluate(self) -> Metrics:
        """Evaluate what the engines hold; a line of metrics of its own at the present step."""
        with self._watch.within(accounting.EVALUATE):
            metrics = await self._scores.now(self.step)
            await self._deciders.kept.evaluated(self.total)
        await self._line.count_late()
        return metrics

    async def prepare(self, groups: Sequence[CreditedGroup]) -> list[MiniBatch]:
        """Divide a take; see `oapl.interfaces.Learner.prepare`. A reset that is due comes first.

        With one learner step per take the ranks are not asked, unless the objective reads the
        answer before it: the policy before the first update is the one that is updated.
        """
        self._watch.enter(accounting.PREPARE)
        self._books.takes += 1
        self._line.has_batch()
        if "reference" in self._objective.needs:
            await self._reset_reference_if_due()
        parts = [
            MiniBatch(groups=part, number=number)
            for number, part in enumerate(batching.divide(groups, self._config.groups_per_step))
        ]
        steps = parts * self._config.learner.updates_per_batch
        self._left = len(steps)
        if is_prepared(self._objective.needs, self._config.steps_per_take):
            await self._score_before(parts)
        return steps

    async def _reset_reference_if_due(self) -> None:
        """A reincarnation keeps the optimizer, unless a reset of another cause is due with it."""
        resets = self._deciders.resets
        other = resets.due(self.step)
        cause = other or resets.reincarnation(self.step)
        if not cause:
            return
        calls = [t.reset_reference(keeps_optimizer=not other) for t in self._ranks.trainers]
        await self._ranks.gather(calls, "a reset of the reference", self.step)
        resets.done(self.step)
        self._line.note({"reference/resets": 1.0})
        self._tracker.message(f"step {self.total}: the reference is set anew ({cause})")

    async def _score_before(self, parts: Sequence[MiniBatch]) -> None:
        by_part = [self._packing.shard(part, self.step) for part in parts]
        calls = [
            trainer.prepare([batches[rank] for batches in by_part])
            for rank, trainer in enumerate(self._ranks.trainers)
        ]
        metrics, *_ = await self._ranks.gather(calls, "an iteration", self.step)
        self._line.note(metrics)

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
        await self._scores.check()
        began = time.monotonic()
        waited = self._line.has_batch()
        metrics, batches = await self._updated(part)
        self._watch.enter(accounting.OTHER)
        self.step += 1
        self._left -= 1
        self._groups = part.groups
        storing = self._keep(part.groups, batches)
        self._line.count_engines(waited, time.monotonic() - began, storing)
        self._line.note(metrics)
        self._line.trained_on(part.groups)
        return not metrics.get("faults/skipped_steps")

    async def _updated(self, part: MiniBatch) -> tuple[Metrics, Sequence[Batch]]:
        batches = self._packing.shard(part, self.step)
        try:
            updates = [t.update(b) for t, b in zip(self._ranks.trainers, batches, strict=True)]
            updating = self._ranks.gather(updates, "a learner step", self.step)
            (metrics, *_), _ = await both(updating, self._packing.ahead(self.step + 1))
        except DivergedError:
            folder = self._config.folder / f"diverged-step-{self.total}"
            self._store.save_all(part.groups, folder)
            raise
        return metrics, batches

    async def _keep(self, groups: Sequence[CreditedGroup], batches: Sequence[Batch]) -> None:
        """Store what is to be kept of the step that was made, with its log-probs."""
        step, scores = self.total, list[TokenScores]()
        if batches[0].kept_groups:
            calls = [trainer.kept_scores() for trainer in self._ranks.trainers]
            found = await self._ranks.gather(calls, "log-probs to be stored", self.step)
            scores = [one for of_rank in found for one in of_rank]
        self._store.add(groups, step, scores)

    async def report(self) -> None:
        """Collect every owner's counters and write the line of this step.

        After an iteration's last one, save when overdue.
        """
        values = await self._line.completed(self.total, self._first)
        await self._tell_of_failures(values)
        values |= self._deciders.saw_line(self.step, values, self._groups)
        self._write(values)
        self._tell_of_spared(values)
        is_between = self._left <= 0  # two iterations: no group is leased
        if is_between:
            await self._deciders.kept.iterated(values)
            await self._look_at_checkpoint()
            if self._saving.is_overdue():
                await self._save_in_mid_run()
            self._deciders.look()
        self._watch.enter(accounting.DATA if is_between else accounting.OTHER)

    def _write(self, values: Metrics) -> None:
        for line in self._faults.lines(values):
            self._tracker.message(line)
        self._tracker.log(StepMetrics(step=self.total, values=values))

    async def _tell_of_failures(self, values: Metrics) -> None:
        if values.get("replay/failed") and not self._has_told:
            self._has_told = True
            cause = await self._replay.first_failure()
            self._tracker.message(f"a prompt failed: {cause}; replay/failed counts all that do")

    def _tell_of_spared(self, values: Metrics) -> None:
        if values.get("replay/spared"):
            self._tracker.message(
                f"step {self.total}: the filter has dropped as many groups as replay.max_dropped "
                f"allows in a period; {values['replay/spared']:.0f} that it would have dropped are "
                "trained on"
            )

    async def checkpoint_if_due(self) -> None:
        """Save at the end of a period, every `checkpoint.every_syncs` of them.

        Without a lead the learner's weights are served next, and replay holds nothing now but what
        `replay.max_versions` keeps.
        """
        if self._saving.is_due(self.step):
            await self._save_in_mid_run()

    async def _save_in_mid_run(self) -> None:
        if not self._config.checkpoint.beside:
            await self.checkpoint()
            self._tell_of_cost()
            return
        with self._watch.within(accounting.CHECKPOINT):
            await self._publications.settle()
            started = time.monotonic()
            self._store.flush()
            self._tell_of(await self._saving.settle(self.step))
            await self._saving.begin(self.step)
            self._line.note({"time/checkpoint_s": time.monotonic() - started})

    def _tell_of_cost(self) -> None:
        if (words := self._saving.dear()) and not self._has_told_of_cost:
            self._has_told_of_cost = True
            self._tracker.message(words)

    async def _look_at_checkpoint(self) -> None:
        with self._watch.within(accounting.CHECKPOINT):
            self._tell_of(await self._saving.look(self.step))

    def _tell_of(self, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            self._tracker.saved(checkpoint, step_of(checkpoint))

    async def checkpoint(self) -> Path:
        """Save everything that affects the next step; see `Saving.save`.

        Called between two iterations: no group is leased. A publication under way is awaited
        first, so that its evaluation is not lost; one on engines set aside goes on.

        Returns:
            The checkpoint, `step-N`.
        """
        with self._watch.within(accounting.CHECKPOINT):
            await self._publications.settle()
            started = time.monotonic()
            self._store.flush()
            self._tell_of(await self._saving.settle(self.step))
            path = await self._saving.save(self.step)
            took = time.monotonic() - started
            self._saving.took(took)
            self._line.note({"time/checkpoint_s": took})
            self._tell_of(path)
            return path

    async def restore(self, path: Path) -> None:
        """Go on from a checkpoint, in new processes; see `Saving.restore`.

        Raises:
            CheckpointError: It is damaged, or of another run's shape or another version of oapl.
        """
        self.step = await self._saving.restore(path)

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
        return await self._saving.take_over(path, keeps)

    async def save_model(self, path: Path) -> None:
        """Write the present policy as Hugging Face safetensors into the folder `path`."""
        saves = [t.save_model(path) for t in self._ranks.trainers]
        with self._watch.within(accounting.CHECKPOINT):
            await self._ranks.gather(saves, "the model to be saved", self.step)

    def finish(self) -> None:
        """Note that no further step is made: what follows only ends the run."""
        self._watch.enter(accounting.FINISH)

    def abandon(self) -> None:
        """Wait for engines and their evaluation no more: the run is to stop."""
        self._publications.abandon()
        self._scores.abandon()

    async def close(self) -> None:
        """Leave nothing running here, when no act is awaited any more."""
        await self._publications.close()
        await self._scores.close()
        await self._line.close()
        await self._saving.close()
        with contextlib.suppress(OSError):  # a full disk may be why it ends, which others tell
            self._write(self._line.last(self.total))

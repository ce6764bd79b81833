"""A run of stages: what was checked is done one after the other, in one folder.

Each stage runs as a run of its own would, with the model and the groups that the ones before have
left. Invariants: a stage that has ended is noted (`stage_record`) before the next one begins, and a
run that is started again goes on in the first that has not; steps, metrics and checkpoints count on
over the stages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.checks import handing_over, stage_table
from deploy.checks.dating import TRAINING, as_resumed
from deploy.checks.preflight import Begin, PreflightReport
from deploy.checks.stages import look_at, look_at_stages
from deploy.filtering import choosing, running
from deploy.processes.kept_ray import kept
from deploy.run import evaluating, folders, generation, restarts, stage_record, storage, training
from deploy.run.attempts import Attempts
from deploy.run.leg import MODEL, HandOver, Leg, mark
from deploy.run.loops import run_alone
from deploy.run.outcome import BY_STEPS, RunOutcome
from deploy.run.stage_record import Ended
from learner.checkpoints import best as best_policy
from learner.checkpoints import resuming
from learner.moving_on import REQUEST
from oapl.config import RunConfig
from oapl.config.objective import samples
from oapl.config.stages import Stage, StagePlace, stages_of
from oapl.config.toml import to_toml
from oapl.errors import InputError, OaplError
from oapl.tracking import history
from oapl.tracking.restarts import RestartLog
from oapl.tracking.status import FILTER, StatusSink
from oapl.tracking.tracker import build_tracker
from oapl.whole_files import written_aside
from reward_server import settings as reward_settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands.

    Attributes:
        ended: The stages that have.
        resume: A checkpoint of the one that follows them; None where it has not begun.
    """

    ended: tuple[Ended, ...]
    resume: Path | None


def run(config: RunConfig) -> RunOutcome:
    """Do all stages of a run that have not ended.

    Raises:
        InputError: One of them cannot work; nothing was started.
        OaplError: One failed; what the run folder holds is good.
    """
    config = as_resumed(config, resuming.asked_for(config))
    stages = stages_of(config)
    found = position(config, stages)
    model, groups = _left(config.folder, found.ended)
    report = look_at_stages(
        config,
        checkpoint=found.resume,
        done=len(found.ended),
        model=model,
        groups=groups,
    )
    with storage.named(config.folder), folders.locked(config.folder):
        (config.folder / TRAINING).write_text(to_toml(config))
        found = position(config, stages)  # anew: who held the folder may have ended only now
        stage_record.write(config.folder, found.ended)
        if config.checkpoint.resume != "auto":
            _set_aside(stages[len(found.ended) + 1 :])
        with kept():
            return _Stages(config, stages, found, report.reports).go_on()


def position(config: RunConfig, stages: Sequence[Stage]) -> Position:
    """Find where a run stands.

    Args:
        config: The run.
        stages: Of its recipe.

    Raises:
        InputError: What is in its folder is of another recipe, or no longer whole.
    """
    folder = config.folder
    ended = stage_record.read(folder, stages)
    checkpoint = resuming.asked_for(config)
    if checkpoint is None:
        return Position(ended=tuple(ended), resume=None)
    index = _stage_of(checkpoint, stages)
    is_named = config.checkpoint.resume != "auto"
    if is_named and index and checkpoint.parent != folder / "checkpoints":
        raise InputError(
            f"checkpoint.resume = {str(checkpoint)!r}: is of stage {stages[index].name} of another "
            "run; go on in that run's folder, or begin from its model"
        )
    if index > len(ended):
        raise InputError(
            f"{checkpoint} is of stage {stages[index].name}, but {folder / stage_record.FILE} does "
            f"not say that {stages[len(ended)].name} has ended; put that file back, or choose "
            "another run.name"
        )
    wants_more = len(ended) == len(stages) and _is_longer(stages[-1], ended[-1])
    if is_named or index == len(ended) or (wants_more and index == len(stages) - 1):
        return Position(ended=tuple(ended[:index]), resume=checkpoint)
    return Position(ended=tuple(ended), resume=None)


def _stage_of(checkpoint: Path, stages: Sequence[Stage]) -> int:
    name = resuming.stage_of(checkpoint) or stages[0].name
    found = [index for index, stage in enumerate(stages) if stage.name == name]
    if not found:
        raise InputError(
            f"{checkpoint} is of stage {name}, which the recipe has not; set it back, or choose "
            "another run.name"
        )
    return found[0]


def _set_aside(stages: Sequence[Stage]) -> None:
    """Rename what stages have left that the run goes back before: it is made again."""
    for folder in filter(Path.is_dir, map(handing_over.folder_of, stages)):
        aside = folder.with_name(f"later-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)


def _is_longer(stage: Stage, ended: Ended) -> bool:
    """Whether a stage that made all its steps has been given more of them."""
    return ended.cause == BY_STEPS and ended.made < stage.config.run.max_steps


class _Stages:
    """Does stage after stage.

    Args:
        config: The run.
        stages: All of them.
        found: Where it stands.
        reports: What was found of the stages before anything started, by name.
    """

    def __init__(
        self,
        config: RunConfig,
        stages: Sequence[Stage],
        found: Position,
        reports: Mapping[str, PreflightReport],
    ) -> None:
        self._config = config
        self._folder = config.folder
        self._stages = stages
        self._ended = list(found.ended)
        self._resume = found.resume
        self._reports = reports
        self._restarts = restarts.of_the_run(config)
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}

    def go_on(self) -> RunOutcome:
        """Do what is left.

        Returns:
            How it ended: of the stage that was stopped, or of the last one; the seconds of those
            before stand under their names.
        """
        acts = {
            "train": self._train,
            "generate": self._generate,
            "filter": self._filter,
            "evaluate": self._evaluate,
        }
        outcome = self._done()
        for stage in self._stages[len(self._ended) :]:
            earlier = dict(self._seconds)
            outcome, left = acts[stage.kind](stage)
            self._seconds[stage.name] = sum(outcome.phases.values())
            outcome = dataclasses.replace(outcome, phases={**earlier, **outcome.phases})
            if outcome.signal or not outcome.ended:
                goes_on = f"the same command goes on in {handing_over.in_words(stage)}"
                return dataclasses.replace(outcome, next=outcome.next or goes_on)
            self._note(stage, left)
        return outcome

    def _done(self) -> RunOutcome:
        """Of a run in which nothing was left to do."""
        return RunOutcome(
            folder=self._folder,
            step=self._ended[-1].step if self._ended else 0,
            made=self._ended[-1].made if self._ended else 0,
            before=history.first_evaluation(self._folder),
            after=history.last_evaluation(self._folder),
            was_done=True,
        )

    def _train(self, stage: Stage) -> tuple[RunOutcome, Ended]:
        config = self._ready(stage)
        report = self._look(stage, config)
        resume, self._resume = self._resume, None
        if resume is not None:
            resuming.check(resume, config)
        leg = self._leg(stage, None if resume else self._hand_over(stage))
        attempts = Attempts(
            restarts=self._restarts,
            record=RestartLog(config.folder).add,
            resume=resume,
            setting=config.checkpoint.resume,
            trials=report.trials,
            leg=leg,
            began=self._began,
        )
        notes = [*self._begins(stage, leg, resume), *report.notes]
        outcome = run_alone(training.train(reward_settings.prepare(config), attempts, notes))
        return outcome, Ended(
            name=stage.name,
            kind=stage.kind,
            step=outcome.step,
            made=outcome.made,
            cause=outcome.ended,
            model=self._policy(stage, leg),
            checkpoint=f"checkpoints/step-{outcome.step}" if outcome.made else "",
        )

    def _generate(self, stage: Stage) -> tuple[RunOutcome, Ended]:
        config, leg = self._ready(stage), self._leg(stage)
        report = self._look(stage, config, anew=True)
        report = dataclasses.replace(report, notes=(*self._begins(stage, leg, None), *report.notes))
        config.folder.mkdir(parents=True, exist_ok=True)
        made = generation.make(folders.prepare_generation(config), report, leg, self._folder)
        if not made.groups and made.cause:
            raise OaplError(f"{handing_over.in_words(stage)}: every prompt failed: {made.cause}")
        ended = "generated" if made.is_whole or made.cause else ""
        outcome = RunOutcome(folder=self._folder, step=leg.first, signal=made.signal, ended=ended)
        return outcome, Ended(
            name=stage.name,
            kind=stage.kind,
            step=leg.first,
            cause=f"some prompts failed: {made.cause}" if made.cause else ended,
            groups=str(made.folder.relative_to(self._folder)),
        )

    def _filter(self, stage: Stage) -> tuple[RunOutcome, Ended]:
        leg, out = self._leg(stage), handing_over.groups_of(stage)
        tracker = build_tracker(stage.config, self._folder, None, leg.place)
        tracker.add(StatusSink(self._folder, leg.first, leg.place))
        with contextlib.closing(tracker):
            mark(tracker, self._folder, leg)
            tracker.phase(FILTER)
            for note in self._begins(stage, leg, None):
                tracker.message(note)
            source = self._folder / stage_record.last_of(self._ended, "groups")
            filters = choosing.from_tables(stage.filters, stage.own.threshold, "filters.")
            threshold = stage.own.threshold
            applied = running.apply(source, out, filters, threshold=threshold, overwrite=True)
            left = applied[-1].passed
            tracker.message(f"{leg.place}: {left.groups:,} groups, {left} rollouts are left")
            if not left.groups:
                raise OaplError(
                    f"{handing_over.in_words(stage)}: nothing is left to train on; loosen its "
                    "filters and begin under another run.name"
                )
            tracker.phase(leg.end(is_over=True))
        outcome = RunOutcome(folder=self._folder, step=leg.first, ended="filtered")
        groups = str(out.relative_to(self._folder))
        return outcome, Ended(name=stage.name, kind=stage.kind, step=leg.first, groups=groups)

    def _evaluate(self, stage: Stage) -> tuple[RunOutcome, Ended]:
        config, leg = self._ready(stage), self._leg(stage)
        report = self._look(stage, config)
        config.folder.mkdir(parents=True, exist_ok=True)
        config = reward_settings.prepare(folders.prepare_evaluation(config))
        notes = self._begins(stage, leg, None)
        outcome = run_alone(evaluating.evaluate(config, report.trials, leg, self._folder, notes))
        before = history.first_evaluation(self._folder)
        return dataclasses.replace(outcome, before=before), Ended(
            name=stage.name, kind=stage.kind, step=leg.first
        )

    def _policy(self, stage: Stage, leg: Leg) -> str:
        """The policy that a stage leaves: its best only once one was kept."""
        best = f"{leg.folder}/{best_policy.FOLDER}"
        is_best = stage.own.leaves == "best" and (self._folder / best).is_dir()
        return best if is_best else leg.model

    def _ready(self, stage: Stage) -> RunConfig:
        """A stage's settings, with what the ones before have left."""
        return handing_over.ready(self._stages, stage, *_left(self._folder, self._ended))

    def _look(self, stage: Stage, config: RunConfig, *, anew: bool = False) -> PreflightReport:
        """What was found of it before, unless it had to wait for what is there now."""
        if not anew and handing_over.made_by(self._stages, stage) is None:
            return self._reports[stage.name]
        return look_at(stage, config, Begin(checkpoint=self._resume))

    def _leg(self, stage: Stage, hand_over: HandOver | None = None) -> Leg:
        earlier, later = self._stages[: stage.number - 1], self._stages[stage.number :]
        drew = [one for one in earlier if one.kind == "generate" or _samples(one)]
        following = next((one for one in later if one.kind == "train"), None)
        is_evaluated = (
            following is not None
            and bool(following.config.eval.sources)
            and not handing_over.names_model(following)
        )
        place = StagePlace(
            number=stage.number,
            total=len(self._stages),
            name=stage.name,
            first=self._ended[-1].step if self._ended else 0,
        )
        return Leg(
            place=place,
            folder=str(handing_over.folder_of(stage).relative_to(self._folder)),
            hand_over=hand_over,
            patience=stage.own.patience,
            is_last=not later,
            evaluates=not is_evaluated or stage.own.leaves == "best",
            sampled=len(drew),
        )

    def _hand_over(self, stage: Stage) -> HandOver | None:
        keeps = handing_over.taken_over(self._stages, stage)
        if not keeps:
            return None
        name = stage_record.last_of(self._ended, "checkpoint")
        checkpoint = self._folder / name
        if not name or not checkpoint.is_dir():
            raise handing_over.named(
                stage,
                InputError(
                    f"takes over {', '.join(sorted(keeps))} from {checkpoint}, which is not there; "
                    f"put it back, or set reset = {sorted(keeps)}"
                ),
            )
        return HandOver(checkpoint=checkpoint, keeps=keeps)

    def _begins(self, stage: Stage, leg: Leg, resume: Path | None) -> list[str]:
        """What a person reads as a stage begins."""
        if resume is not None:
            return []
        about = "; ".join(stage_table.about(self._stages, stage))
        return [f"{leg.place} begins after step {leg.first}" + (f": {about}" if about else "")]

    def _note(self, stage: Stage, left: Ended) -> None:
        """A stage has ended: what it has left is the newest, and the next one follows."""
        if left.model:
            with written_aside(self._folder / MODEL) as part:
                part.symlink_to(left.model)
        self._ended.append(left)
        stage_record.write(self._folder, self._ended)
        request = self._folder / REQUEST
        with contextlib.suppress(FileNotFoundError):
            if request.read_text().strip() == stage.name:
                request.unlink()


def _left(folder: Path, ended: Sequence[Ended]) -> tuple[str, Path | None]:
    """The newest model and set of groups that ended stages have left; empty and None: none."""
    model, groups = (stage_record.last_of(ended, what) for what in ("model", "groups"))
    return str(folder / model) if model else "", folder / groups if groups else None


def _samples(stage: Stage) -> bool:
    return stage.kind == "train" and samples(stage.config)

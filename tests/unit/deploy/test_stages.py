"""A run of stages goes on where it was, whatever ended it; training itself is faked."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from deploy.checks.preflight import PreflightReport
from deploy.checks.stages import StagesReport
from deploy.run import program, stage_record, stages
from deploy.run.outcome import BY_STEPS, RunOutcome
from learner.checkpoints import contents, digests
from learner.moving_on import REQUEST
from oapl.config import RunConfig
from oapl.errors import CheckpointError, InputError, RankError
from oapl.tracking.jsonl import JsonlSink
from oapl.tracking.tracker import Tracker

THREE = (
    {"name": "a", "run": {"max_steps": 10}},
    {"name": "b", "run": {"max_steps": 20}},
    {"name": "c", "run": {"max_steps": 30}, "reset": ["optimizer", "data"]},
)


class Killed(Exception):
    """The process is no more."""


class FakeTraining:
    """Makes the steps of a leg, and a checkpoint on the way where it is told to stop there.

    Attributes:
        seen: Of each leg its name, where it began, the checkpoint that it went on from, what it
            took over.
        stops: By stage, the learner step of the run at which a signal stops it.
    """

    def __init__(self):
        self.seen = []
        self.stops = {}
        self.models = []

    async def __call__(self, config, attempts, notes):
        leg, folder = attempts.leg, config.folder
        kept = leg.hand_over and (leg.hand_over.checkpoint.name, set(leg.hand_over.keeps))
        resume = attempts.resume and attempts.resume.name
        self.seen.append((leg.place.name, leg.first, resume, kept))
        self.models.append(config.model.path)
        end = leg.first + config.run.max_steps
        stop = self.stops.pop(leg.place.name, None)
        step = stop or end
        checkpoint = folder / "checkpoints" / f"step-{step}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        state = {"step": step - leg.first, contents.STAGE: {"name": leg.place.name}}
        contents.write_state(checkpoint, state)
        (checkpoint / digests.FILE).write_text("{}")
        (folder / leg.model).mkdir(parents=True, exist_ok=True)
        return RunOutcome(
            folder=folder,
            step=step,
            made=step - leg.first,
            ended="" if stop else BY_STEPS,
            signal=2 if stop else 0,
            phases={"train": 1.0},
        )


@pytest.fixture
def training(monkeypatch):
    fake = FakeTraining()
    monkeypatch.setattr(stages.training, "train", fake)

    def look(config, **_):
        found = stages.stages_of(config)
        report = PreflightReport(config=config, facts={})
        reports = {stage.name: report for stage in found}
        return StagesReport(config=config, stages=found, reports=reports)

    monkeypatch.setattr(stages, "look_at_stages", look)
    return fake


@pytest.fixture
def config(tmp_path) -> RunConfig:
    return RunConfig(
        run={"name": "mine", "dir": str(tmp_path)},
        model={"path": "start"},
        objective={"name": "grpo", "kl_coefficient": 0.1},
        stages=THREE,
    )


def names(training):
    return [name for name, *_ in training.seen]


def test_stages_follow_one_another_and_count_on(config, training):
    outcome = program.train(config)
    assert training.seen == [
        ("a", 0, None, None),
        ("b", 10, None, ("step-10", {"optimizer", "reference", "data"})),
        ("c", 30, None, ("step-30", {"reference"})),
    ]
    folder = config.folder
    assert training.models == ["start", *(str(folder / "stages" / n / "model") for n in "ab")]
    assert (outcome.step, outcome.made, outcome.ended) == (60, 30, BY_STEPS)
    assert outcome.phases == {"a": 1.0, "b": 1.0, "train": 1.0}
    assert os.readlink(folder / "model") == "stages/c/model"
    ended = json.loads((folder / stage_record.FILE).read_text())
    assert [(one["name"], one["step"], one["made"]) for one in ended] == [
        ("a", 10, 10),
        ("b", 30, 20),
        ("c", 60, 30),
    ]


def test_losses_are_counted_over_all_stages_and_each_begins_with_a_start(
    config, training, monkeypatch
):
    """What a stage needs to start is no restart because one before it has lost a rank."""
    made = []

    async def losing(config, attempts, notes):
        made.append((attempts.failures, attempts.restarts["rank"].number))
        attempts.take_another(RankError("learner rank 0 of 1 died"), Tracker())
        return await training(config, attempts, notes)

    monkeypatch.setattr(stages.training, "train", losing)
    program.train(config)
    assert made == [(0, 0), (0, 1), (0, 2)]


def test_a_run_that_is_done_has_nothing_to_do_and_one_with_more_steps_has(config, training):
    program.train(config)
    again = program.train(config)
    assert (again.was_done, again.step) == (True, 60)
    assert names(training) == ["a", "b", "c"]
    longer = [*THREE[:2], {**THREE[2], "run": {"max_steps": 35}}]
    outcome = program.train(dataclasses.replace(config, stages=longer))
    assert training.seen[-1] == ("c", 30, "step-60", None)
    assert (outcome.step, outcome.made) == (65, 35)


def test_a_stopped_run_goes_on_in_the_stage_that_it_was_in(config, training):
    training.stops = {"b": 17}
    assert program.train(config).signal == 2
    assert names(training) == ["a", "b"]
    assert os.readlink(config.folder / "model") == "stages/a/model"
    assert program.train(config).step == 60
    assert training.seen[2:] == [
        ("b", 10, "step-17", None),
        ("c", 30, None, ("step-30", {"reference"})),
    ]


@pytest.mark.parametrize("before", [True, False], ids=["before the note", "after it"])
def test_a_run_that_is_killed_in_a_hand_over_goes_on_exactly(config, training, monkeypatch, before):
    write = stage_record.write

    def killing(folder, ended):
        if len(ended) == 1:
            if not before:
                write(folder, ended)
            raise Killed
        write(folder, ended)

    monkeypatch.setattr(stage_record, "write", killing)
    with pytest.raises(Killed):
        program.train(config)
    monkeypatch.setattr(stage_record, "write", write)
    outcome = program.train(config)
    again = [("a", 0, "step-10", None)] if before else []
    assert training.seen[1:] == [
        *again,
        ("b", 10, None, ("step-10", {"optimizer", "reference", "data"})),
        ("c", 30, None, ("step-30", {"reference"})),
    ]
    assert outcome.step == 60


def test_a_checkpoint_that_is_named_sets_back_to_its_stage(config, training):
    training.stops = {"b": 17, "c": 40}
    program.train(config)
    program.train(config)
    assert names(training) == ["a", "b", "b", "c"]
    named = config.folder / "checkpoints" / "step-17"
    checkpoint = dataclasses.replace(config.checkpoint, resume=str(named))
    program.train(dataclasses.replace(config, checkpoint=checkpoint))
    assert training.seen[4:] == [
        ("b", 10, "step-17", None),
        ("c", 30, None, ("step-30", {"reference"})),
    ]
    left = {path.name for path in (config.folder / "stages").iterdir()}
    assert left == {"a", "b", "c", "later-c"}, "what is made again does not meet what was"


def test_what_is_taken_over_must_be_there(config, training):
    training.stops = {"b": 17}
    program.train(config)
    for name in ("step-17", "step-10"):
        for path in (config.folder / "checkpoints" / name).iterdir():
            path.unlink()
        (config.folder / "checkpoints" / name).rmdir()
    with pytest.raises(InputError, match=r"stage 2 \(b\): takes over data, optimizer, reference"):
        program.train(config)


def test_a_recipe_with_other_stages_is_refused(config, training):
    training.stops = {"b": 17}
    program.train(config)
    other = [{"name": "z"}, *THREE[1:]]
    with pytest.raises(InputError, match="has ended as 'a' of kind train, but the recipe has 'z'"):
        program.train(dataclasses.replace(config, stages=other))
    fewer = [THREE[0], {"name": "y"}]
    with pytest.raises(InputError, match="is of stage b, which the recipe has not"):
        program.train(dataclasses.replace(config, stages=fewer))
    with pytest.raises(InputError, match="is of stage b of a run of stages, and this run has none"):
        program.train(dataclasses.replace(config, stages=()))
    (config.folder / stage_record.FILE).unlink()
    with pytest.raises(InputError, match="does not say that a has ended"):
        program.train(config)


def test_a_damaged_checkpoint_is_told_as_that(config, training):
    training.stops = {"b": 17}
    program.train(config)
    (config.folder / "checkpoints" / "step-17" / contents.STATE).unlink()
    with pytest.raises(CheckpointError, match="step-17: it is incomplete"):
        program.train(config)


def test_a_request_goes_with_the_stage_that_it_was_for(config, training):
    config.folder.mkdir()
    (config.folder / REQUEST).write_text("b\n")
    training.stops = {"b": 17}
    program.train(config)
    assert (config.folder / REQUEST).exists(), "a is not b"
    program.train(config)
    assert not (config.folder / REQUEST).exists()


def test_a_generation_a_filter_and_an_evaluation_leave_what_the_next_stage_takes(
    config, training, monkeypatch, tmp_path
):
    asked = []

    def make(config, report, leg, folder):
        groups = config.folder / "groups"
        groups.mkdir(parents=True)
        asked.append(("generate", config.model.path, leg.first, leg.sampled, folder))
        return stages.generation.Generated(folder=groups, groups=4, total=4)

    async def evaluate(config, trials, leg, folder, notes):
        assert notes[0].startswith("stage 5/5 exam begins after step 15")
        asked.append(("evaluate", config.model.path, leg.first))
        return RunOutcome(folder=folder, step=leg.first, ended="evaluated")

    def apply(source, out, filters, **_):
        asked.append(("filter", source, out, [one.name for one in filters]))
        passed = type("P", (), {"groups": 3, "__str__": lambda self: "24 = 12 + 12"})()
        return [type("S", (), {"passed": passed})()]

    monkeypatch.setattr(stages.generation, "make", make)
    monkeypatch.setattr(stages.evaluating, "evaluate", evaluate)
    monkeypatch.setattr(stages.running, "apply", apply)
    monkeypatch.setattr(stages, "look_at", lambda *_: PreflightReport(config=config, facts={}))
    given = (
        THREE[0],
        {"name": "made", "kind": "generate"},
        {"name": "left", "kind": "filter", "filters": [{"name": "solvable"}]},
        {"name": "off", "replay": {"source": "stored"}, "run": {"max_steps": 5}},
        {"name": "exam", "kind": "evaluate"},
    )
    tracking = dataclasses.replace(config.tracking, console="off", wandb="off")
    outcome = program.train(dataclasses.replace(config, stages=given, tracking=tracking))
    folder = config.folder
    of = {name: folder / "stages" / name for name in ("a", "made", "left", "off")}
    assert asked == [
        ("generate", str(of["a"] / "model"), 10, 1, folder),
        ("filter", of["made"] / "groups", of["left"] / "groups", ["solvable"]),
        ("evaluate", str(of["off"] / "model"), 15),
    ]
    assert training.seen[-1] == ("off", 10, None, ("step-10", {"optimizer", "reference"}))
    assert (outcome.step, outcome.ended) == (15, "evaluated")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["stage/number"]) for line in lines] == [(10, 3.0)]
    told = (folder / "messages.log").read_text()
    assert 'stage 3/5 left begins after step 10: filter 1: { name = "solvable" }' in told
    assert "stage 3/5 left: 3 groups, 24 = 12 + 12 rollouts are left" in told


def test_a_stage_is_marked_once_whatever_is_begun_again(tmp_path):
    place = stages.StagePlace(number=2, total=3, name="b", first=10)
    leg = stages.Leg(place=place)
    sink = JsonlSink(tmp_path, None)
    for _ in range(2):
        stages.mark(sink, tmp_path, leg)
    stages.mark(sink, tmp_path, stages.Leg())
    (line,) = map(json.loads, Path(tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (line["step"], line["stage/number"]) == (10, 2.0)


def test_a_stage_may_leave_its_best_policy(config, training):
    best = {**THREE[0], "leaves": "best", "checkpoint": {"keep_best": True}}
    given = dataclasses.replace(config, stages=[best, *THREE[1:]])
    (config.folder / "stages" / "a" / "best").mkdir(parents=True)
    program.train(given)
    assert training.models[1] == str(config.folder / "stages" / "a" / "best")
    assert training.seen[1] == ("b", 10, None, None), "of the best only the weights are there"
    assert training.models[2] == str(config.folder / "stages" / "b" / "model")


def test_engines_of_a_later_stage_draw_other_samples():
    seeds = {stages.Leg(sampled=drew).noise(step) for drew in range(3) for step in (0, 1, 10**6)}
    assert len(seeds) == 9
    assert stages.Leg().noise(7) == 7, "a run without stages draws what it drew"


def test_a_generation_that_was_begun_is_looked_at_with_the_model_that_answers(
    config, training, monkeypatch
):
    """Not with the recipe's own, whose groups they would not be."""
    seen = []
    look = stages.look_at_stages

    def looking(config, **options):
        seen.append((options["model"], options["groups"], options["done"]))
        return look(config)

    def make(config, report, leg, folder):
        raise Killed

    monkeypatch.setattr(stages, "look_at_stages", looking)
    monkeypatch.setattr(stages, "look_at", lambda *_: PreflightReport(config=config, facts={}))
    monkeypatch.setattr(stages.generation, "make", make)
    given = dataclasses.replace(config, stages=[THREE[0], {"kind": "generate"}])
    for _ in range(2):
        with pytest.raises(Killed):
            program.train(given)
    model = str(config.folder / "stages" / "a" / "model")
    assert seen == [("", None, 0), (model, None, 1)]

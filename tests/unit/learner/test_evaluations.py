"""Evaluations beside training: who waits, what is skipped, what a stop leaves behind.

Time is the event loop's, which leaps: an evaluation of a hundred seconds takes none.
"""

import asyncio
import dataclasses
import json

import pytest

from learner import publication
from learner.checkpoints import published
from learner.checkpoints.best import FILE, FOLDER
from learner.evaluations import Running
from learner.kept_models import CANDIDATE
from learner.moving_on import MovingOn
from oapl.config import RunConfig
from oapl.config.sections import CheckpointSection, EvalSection, ReplaySection, SyncSection
from oapl.errors import (
    DeadlineError,
    DiedError,
    EngineError,
    InputError,
    ProbeError,
    ReplayError,
)
from oapl.records import StepMetrics
from oapl.tracking.jsonl import JsonlSink
from tests.unit.learner.test_group import FakeEngines, FakeTrainer, Lines, make, part

pytestmark = pytest.mark.leaping

STEP_S = 1.0
SOURCES = ({"name": "s", "path": "x.jsonl"},)


class Trainer(FakeTrainer):
    """A step takes a second; knows what it announced for engines set aside."""

    def __init__(self):
        super().__init__()
        self.aside = []
        self.step = 0

    async def update(self, batch):
        await asyncio.sleep(STEP_S)
        self.step += 1
        return await super().update(batch)

    async def announce(self, version, is_aside=False):
        if is_aside:
            self.aside.append(version)
        return await super().announce(version)

    async def save_model(self, path):
        path.mkdir(parents=True, exist_ok=True)
        (path / "weights").write_text(str(self.step))


class Exam:
    """An evaluation of so many seconds, with these scores by step, else 0.5."""

    def __init__(self, seconds, scores=(), error=None):
        self.seconds, self.scores, self.error = seconds, dict(scores), error
        self.labels = []

    async def __call__(self, label):
        self.labels.append(label)
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return {"eval/s/mean@8": self.scores.get(int(label.removeprefix("step-")), 0.5)}


@pytest.fixture(autouse=True)
def _nothing_is_fetched_back(monkeypatch):
    monkeypatch.setattr(published, "save", lambda *_: None)


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        run={"name": "r", "dir": str(tmp_path)},
        rollout={"group_size": 2, "num_engines": 2},
        learner={"batch_size": 4},
        sync={"interval": 4},
        eval={"every_steps": 5, "engines": 1, "sources": SOURCES},
        checkpoint={"every_syncs": 2},
    )


class Aside(FakeEngines):
    async def stats(self):
        return {"faults/engine": 1.0, "engine/evaluation_busy_s": 2.0}


class Written(Lines):
    """Writes its lines as a run does."""

    def __init__(self, folder, step=None):
        super().__init__()
        self._sink = JsonlSink(folder, step)

    def log(self, metrics):
        super().log(metrics)
        self._sink.log(metrics)


def begin(config, exam, **changes):
    """A learner with one engine that collects and one set aside."""
    config.folder.mkdir(exist_ok=True)
    parts = {
        "trainers": [Trainer()],
        "engines": FakeEngines(),
        "aside": Aside(),
        "evaluate": exam,
        "tracker": Lines(),
    }
    given = {**parts, **changes}
    return make(config, **given), given


async def live(learner, until, interval=4):
    """The loop of `oapl.loops.learn`, as far as this matters."""
    while learner.step < until:
        if learner.begin < 0 or (learner.step % interval == 0 and learner.begin < learner.step):
            await learner.checkpoint_if_due()
            await learner.publish(learner.step)
        await learner.evaluate_if_due()
        await learner.prepare(part().groups)
        await learner.update(part())
        await learner.report()


def now():
    return asyncio.get_running_loop().time()


def scores(lines):
    return [(step, values) for step, values in lines.rows if "eval/s/mean@8" in values]


def steps(lines):
    return [values for _, values in lines.rows if "time/step_s" in values]


async def test_the_learner_waits_no_second_for_evaluations_on_engines_set_aside(config):
    exam = Exam(3.0, {0: 0.1, 5: 0.2, 10: 0.3, 15: 0.4})
    learner, given = begin(config, exam)
    await live(learner, 20)
    assert now() == 20 * STEP_S, "twenty steps and nothing else"
    await learner.await_evaluation()
    lines = given["tracker"]
    told = [(step, values["eval/s/mean@8"]) for step, values in scores(lines)]
    assert told == [(0, 0.1), (5, 0.2), (10, 0.3), (15, 0.4)]
    assert lines.rows.index(scores(lines)[1]) > 6, "the scores of step 5 come when it is long past"
    assert [line["time/wait_for_evaluation_s"] for line in steps(lines)] == [0.0] * 20
    assert [line["faults/skipped_evaluations"] for line in steps(lines)] == [0.0] * 20


async def test_in_the_synchronisation_the_learner_waits_as_long_as_it_takes(config, monkeypatch):
    monkeypatch.setattr(publication.time, "monotonic", now)
    config = dataclasses.replace(config, eval=EvalSection(every_steps=8, sources=SOURCES))
    lines = Lines()
    learner = make(config, trainers=[Trainer()], evaluate=Exam(3.0), tracker=lines)
    await live(learner, 12)
    assert now() == 12 * STEP_S + 2 * 3.0, "at the start and at step 8"
    waits = [line.get("time/wait_for_evaluation_s") for line in steps(lines)]
    assert [(number, wait) for number, wait in enumerate(waits) if wait] == [(0, 3.0), (8, 3.0)]
    assert [step for step, _ in scores(lines)] == [0, 8]


async def test_a_point_off_a_synchronisation_is_one_more_publication_to_these_engines_alone(config):
    config = dataclasses.replace(
        config, eval=dataclasses.replace(config.eval, every_steps=2), run=config.run
    )
    learner, given = begin(config, Exam(0.5))
    await live(learner, 8)
    (trainer,) = given["trainers"]
    assert given["engines"].loaded == [0, 4]
    assert given["aside"].loaded == [0, 2, 4, 6]
    assert trainer.exported == [0, 2, 4, 6]
    assert trainer.aside == [2, 6], "at a synchronisation they take what the others are given"
    assert learner.version == 4, "which is served, whatever those set aside have"


async def test_every_so_many_synchronisations_is_beside_training_too(config):
    section = EvalSection(every_syncs=2, engines=1, sources=SOURCES)
    learner, given = begin(dataclasses.replace(config, eval=section), Exam(0.5))
    await live(learner, 16)
    assert given["aside"].loaded == [0, 8]
    assert now() == 16 * STEP_S


async def test_a_point_that_is_due_while_the_last_one_is_under_way_is_skipped_and_counted(config):
    exam = Exam(7.5)
    learner, given = begin(config, exam)
    await live(learner, 20)
    lines = given["tracker"]
    assert exam.labels == ["step-0", "step-10"]
    skipped = [line["faults/skipped_evaluations"] for line in steps(lines)]
    assert [step for step, number in enumerate(skipped) if number] == [5, 15]
    told = "the evaluation of step 5 is skipped: that of step 0 is still under way"
    assert [text for text in lines.told if text.startswith(told)]


async def test_what_the_engines_set_aside_count_is_added_to_the_line(config):
    learner, given = begin(config, Exam(0.1))
    await live(learner, 1)
    (line,) = steps(given["tracker"])
    assert (line["faults/engine"], line["engine/evaluation_busy_s"]) == (1.0, 2.0)
    assert line["rollout/tokens"] == 10.0, "no token of an evaluation"


@pytest.mark.parametrize("error", [DiedError("no engine is left"), DiedError("x")], ids=["a", "b"])
async def test_a_point_whose_engine_dies_is_skipped_and_the_run_goes_on(config, error):
    exam = Exam(0.5, error=error)
    learner, given = begin(config, exam)
    await live(learner, 8)
    assert exam.labels == ["step-0", "step-5"]
    assert sum(line["faults/skipped_evaluations"] for line in steps(given["tracker"])) == 2
    assert f"the evaluation of step 5 is skipped: DiedError: {error}" in given["tracker"].told


@pytest.mark.parametrize("error", [DeadlineError("waited 3600 s"), EngineError("a kernel broke")])
async def test_an_evaluation_in_the_synchronisation_that_fails_costs_the_run_that_point_alone(
    config, error
):
    config = dataclasses.replace(config, eval=EvalSection(every_steps=4, sources=SOURCES))
    learner, given = begin(config, Exam(0.5, error=error), aside=None)
    await live(learner, 8)
    lines = given["tracker"]
    assert scores(lines) == []
    assert sum(line["faults/skipped_evaluations"] for line in steps(lines)) == 2
    told = [text for text in lines.told if "is skipped" in text]
    words = f"is skipped: {type(error).__name__}: {error}"
    assert told == [f"the evaluation of step {step} {words}" for step in (0, 4)]


async def test_the_last_evaluation_fails_the_command_and_is_not_skipped(config):
    config = dataclasses.replace(config, eval=EvalSection(every_steps=4, sources=SOURCES))
    learner, _ = begin(config, Exam(0.5, error=DeadlineError("waited 3600 s")), aside=None)
    await live(learner, 1)
    with pytest.raises(DeadlineError, match="waited 3600 s"):
        await learner.evaluate()


@pytest.mark.parametrize("error", [ReplayError("replay died"), InputError("no such set")])
async def test_what_takes_the_run_back_or_ends_it_skips_no_evaluation(config, error):
    config = dataclasses.replace(config, eval=EvalSection(every_steps=4, sources=SOURCES))
    learner, _ = begin(config, Exam(0.5, error=error), aside=None)
    with pytest.raises(type(error), match=str(error)):
        await live(learner, 8)


async def test_what_is_counted_is_told_once_in_words(config):
    learner, given = begin(config, Exam(0.1))
    await live(learner, 3)
    told = [text for text in given["tracker"].told if text.startswith("fault: ")]
    assert told == [
        "fault: faults/engine = 1, inference engines that failed under a worker, which rebuilds "
        "them; told once, the metric counts all"
    ]


async def test_engines_that_disagree_with_the_learner_end_the_run(config):
    learner, _ = begin(config, Exam(0.5, error=ProbeError("they disagree")))
    with pytest.raises(ProbeError, match="they disagree"):
        await live(learner, 8)


async def test_stored_training_is_evaluated_beside_by_all_engines(config):
    config = dataclasses.replace(config, replay=ReplaySection(source="stored", path=("x",)))
    learner, given = begin(config, Exam(3.0), engines=None)
    await live(learner, 8)
    assert now() == 8 * STEP_S
    assert given["aside"].loaded == [0, 5]
    assert given["trainers"][0].aside == [0, 5]


# --- in a share of what engines that make rollouts have in flight


@pytest.fixture
def sharing(config):
    section = EvalSection(every_steps=4, slots=0.25, sources=SOURCES)
    return dataclasses.replace(config, eval=section)


async def test_in_a_share_of_running_engines_nobody_waits_and_nothing_more_is_published(sharing):
    exam, whole = Exam(3.0, {0: 0.1, 4: 0.2}), Exam(1.0)
    learner, given = begin(sharing, whole, aside=Running(), evaluate_beside=exam)
    await live(learner, 8)
    assert now() == 8 * STEP_S
    told = [(step, values["eval/s/mean@8"]) for step, values in scores(given["tracker"])]
    assert told == [(0, 0.1), (4, 0.2)]
    assert given["engines"].loaded == [0, 4]
    assert given["trainers"][0].aside == []
    await learner.publish_last()
    await learner.evaluate()
    assert given["engines"].loaded == [0, 4, 8]
    assert whole.labels == ["step-8"], "at the end there is nobody to share with"


async def test_an_evaluation_that_outlasts_its_period_is_cut_before_the_next_publication(sharing):
    exam = Exam(4.5)
    engines = FakeEngines()
    learner, given = begin(sharing, exam, aside=Running(), evaluate_beside=exam, engines=engines)
    await live(learner, 12)
    assert now() == 12 * STEP_S
    assert exam.labels == ["step-0", "step-4", "step-8"]
    assert scores(given["tracker"]) == []
    told = "the evaluation of step 4 is skipped: it has outlasted its period; raise eval.slots"
    assert any(text.startswith(told) for text in given["tracker"].told)
    skipped = [line["faults/skipped_evaluations"] for line in steps(given["tracker"])]
    assert [step for step, number in enumerate(skipped) if number] == [4, 8]


# --- the end, and stops


async def test_the_last_evaluation_comes_after_the_point_under_way(config):
    exam = Exam(30.0)
    learner, given = begin(config, exam)
    await live(learner, 7)
    await learner.publish_last()
    assert now() == 30.0
    await learner.evaluate()
    assert given["aside"].loaded == [0, 7]
    assert [step for step, _ in scores(given["tracker"])] == [0, 7]
    assert learner.version == 4


async def test_a_checkpoint_waits_for_no_point(config):
    learner, _ = begin(config, Exam(100.0))
    await live(learner, 9)
    began = now()
    path = await learner.checkpoint()
    assert now() == began
    state = json.loads((path / "state.json").read_text())["evaluations"]
    assert state == {"last": 5, "under_way": 0}


async def resumed(config, path, exam, **changes):
    lines = Written(config.folder, int(path.name.removeprefix("step-")))
    learner, given = begin(config, exam, tracker=lines, **changes)
    await learner.restore(path)
    return learner, given


async def stopped(config, steps, exam=None):
    """A run that is stopped with a point under way, and its checkpoint."""
    learner, _ = begin(config, exam or Exam(100.0), tracker=Written(config.folder))
    await live(learner, steps)
    await learner.evaluate_if_due()
    learner.abandon()
    path = await learner.checkpoint()
    await learner.close()
    return path


async def test_a_point_that_a_stop_cuts_off_at_its_own_step_is_made_again(config):
    path = await stopped(config, 10, Exam(4.5))
    exam = Exam(0.5)
    learner, _ = await resumed(config, path, exam)
    await live(learner, 12)
    assert exam.labels == ["step-10"]


async def test_a_point_that_had_ended_is_not_made_again(config):
    learner, _ = begin(config, Exam(0.5), tracker=Written(config.folder))
    await live(learner, 10)
    await learner.evaluate_if_due()
    await asyncio.sleep(1.0)
    path = await learner.checkpoint()
    exam = Exam(0.5)
    learner, _ = await resumed(config, path, exam)
    await live(learner, 12)
    assert exam.labels == []


async def test_a_point_whose_weights_are_gone_is_skipped_and_counted(config):
    path = await stopped(config, 7, Exam(4.5))
    assert path.name == "step-7"
    learner, given = await resumed(config, path, Exam(0.5))
    told = "the evaluation of step 5 is skipped: the run stopped under it, and its weights are gone"
    assert told in given["tracker"].told
    await live(learner, 8)
    assert steps(given["tracker"])[0]["faults/skipped_evaluations"] == 1


async def test_a_point_of_what_engines_serve_goes_on_with_the_weights_of_the_checkpoint(
    config, monkeypatch
):
    section = EvalSection(every_syncs=1, engines=1, sources=SOURCES)
    config = dataclasses.replace(config, eval=section)
    saved = {}
    monkeypatch.setattr(published, "save", lambda part, weights, _: saved.update(w=weights))
    monkeypatch.setattr(published, "exists", lambda path: "w" in saved)
    monkeypatch.setattr(published, "load", lambda path, _: saved["w"])
    path = await stopped(config, 6, Exam(3.5))
    exam = Exam(0.5)
    learner, given = await resumed(config, path, exam)
    await live(learner, 8)
    assert exam.labels == ["step-4"]
    assert given["aside"].loaded == [4]


async def test_scores_of_an_earlier_step_reach_who_decides_by_them_after_a_resume(
    config, monkeypatch
):
    moving = MovingOn("stage", 1, config.folder)
    exam = Exam(1.5, {0: 0.9, 5: 0.4})
    learner, _ = begin(config, exam, tracker=Written(config.folder), moving=moving)
    await live(learner, 6)
    path = await learner.checkpoint()
    assert json.loads((path / "state.json").read_text())["evaluations"]["under_way"] == 5
    await learner.await_evaluation()
    assert moving.cause == "1 evaluations no better than 0.900"
    again = MovingOn("stage", 1, config.folder)
    learner, given = await resumed(config, path, Exam(0.5), moving=again)
    again.begin(lambda: None)
    assert again.cause == moving.cause
    assert given["aside"].loaded == []


# --- the best checkpoint


@pytest.fixture
def keeping(config):
    return dataclasses.replace(
        config,
        sync=SyncSection(interval=2),
        eval=EvalSection(every_steps=4, engines=1, sources=SOURCES),
        checkpoint=CheckpointSection(every_syncs=1, keep=1, keep_best=True),
    )


async def test_the_best_policy_is_that_of_its_step_though_the_learner_has_gone_on(keeping):
    learner, given = begin(keeping, Exam(2.5, {4: 0.6, 8: 0.4}))
    await live(learner, 7, interval=2)
    best = json.loads((keeping.folder / FILE).read_text())
    assert (best["best"], best["exported"]) == (4, 4)
    assert (keeping.folder / FOLDER / "weights").read_text() == "4"
    await live(learner, 13, interval=2)
    assert (keeping.folder / FOLDER / "weights").read_text() == "4"
    assert [path.name for path in keeping.folder.glob(f"{CANDIDATE}*")] == [f"{CANDIDATE}12"]
    there = sorted(path.name for path in (keeping.folder / "checkpoints").glob("step-*"))
    assert there == ["step-12", "step-4"]
    assert "step 4 is the best so far, mean 0.6000: best/" in given["tracker"].told


async def test_a_checkpoint_whose_scores_are_awaited_is_spared(keeping):
    learner, _ = begin(keeping, Exam(5.0, {4: 0.6}))
    await live(learner, 9, interval=2)  # step 0 until 5, so that 4 is skipped and 8 begins
    there = {path.name for path in (keeping.folder / "checkpoints").glob("step-*")}
    await live(learner, 11, interval=2)
    there = {path.name for path in (keeping.folder / "checkpoints").glob("step-*")}
    assert there == {"step-8", "step-10"}
    assert [path.name for path in keeping.folder.glob(f"{CANDIDATE}*")] == [f"{CANDIDATE}8"]


async def test_a_policy_whose_scores_came_as_the_run_died_is_the_best_after_a_resume(keeping):
    learner, _ = begin(keeping, Exam(100.0), tracker=Written(keeping.folder))
    await live(learner, 1, interval=2)
    learner.abandon()
    await learner.close()
    learner, given = begin(keeping, Exam(3.5, {4: 0.6}), tracker=Written(keeping.folder))
    given["tracker"].told.clear()
    await live(learner, 6, interval=2)
    assert (keeping.folder / f"{CANDIDATE}4").is_dir()
    path = await learner.checkpoint()
    # The scores are written, and the process dies before the policy is put in its place.
    given["tracker"].log(StepMetrics(step=4, values={"eval/s/mean@8": 0.6}))
    await learner.close()
    again, _ = await resumed(keeping, path, Exam(0.5))
    best = json.loads((keeping.folder / FILE).read_text())
    assert (again.step, best["best"], best["exported"]) == (6, 4, 4)
    assert (keeping.folder / FOLDER / "weights").read_text() == "4"

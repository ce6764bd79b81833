"""The best checkpoint: recorded, spared, and the same after a kill at any place."""

import dataclasses
import json

import pytest

from learner.checkpoints import snapshots
from learner.checkpoints.best import FILE, FOLDER, LATER, Best
from oapl.config import RunConfig
from oapl.errors import RankError
from oapl.evaluation import score_of
from tests.unit.learner.test_group import FakeEngines, FakeReplay, FakeTrainer, Lines, make, part

pytestmark = pytest.mark.leaping

SCORES = {0: 0.9, 2: 0.3, 4: 0.6, 6: 0.5, 8: 0.4, 10: 0.6}
"""Of each evaluated step; the start is no checkpoint, and of the two equal ones the earlier is the
best."""


class Saver(FakeTrainer):
    """Writes the step whose weights it has."""

    def __init__(self, killed_at=None):
        super().__init__()
        self.step = 0
        self.killed_at = killed_at

    async def update(self, batch):
        self.step += 1
        return await super().update(batch)

    async def save(self, path):
        path.mkdir()
        (path / "weights").write_text(str(self.step))

    async def load(self, path):
        self.step = int((path / "weights").read_text())

    async def save_model(self, path):
        if self.killed_at == self.step:
            raise RuntimeError
        path.mkdir(parents=True, exist_ok=True)
        (path / "weights").write_text(str(self.step))


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        run={"name": "r", "dir": str(tmp_path)},
        rollout={"group_size": 2},
        learner={"batch_size": 4},
        sync={"interval": 2},
        eval={"every_syncs": 1, "sources": [{"name": "s", "path": "x.jsonl"}]},
        checkpoint={"keep": 1, "keep_best": True},
    )


def begin(config, trainer, scores=SCORES):
    async def evaluate(label):
        return {"eval/s/mean@8": scores[int(label.removeprefix("step-"))], "eval/s/greedy": 0.0}

    engines, lines = FakeEngines(), Lines()
    return make(config, trainers=[trainer], engines=engines, evaluate=evaluate, tracker=lines)


async def live(learner, until):
    """The loop of `oapl.loops.learn`, as far as this matters."""
    while learner.step < until:
        if learner.step % 2 == 0:
            await learner.checkpoint_if_due()
            await learner.publish(learner.step)
        await learner.prepare(part().groups)
        await learner.update(part())
        await learner.report()


async def resume(config, trainer, scores=SCORES):
    learner = begin(config, trainer, scores)
    await learner.restore(snapshots.latest(config.folder / "checkpoints"))
    return learner


def kept(config):
    return sorted(int(path.name[5:]) for path in (config.folder / "checkpoints").glob("step-*"))


def models(config):
    folder = config.folder / "models"
    return {path.name: (path / "weights").read_text() for path in folder.iterdir()}


def best(config):
    return json.loads((config.folder / FILE).read_text())


async def test_the_best_is_recorded_exported_and_spared(config):
    learner = begin(config, Saver())
    await live(learner, 9)
    assert kept(config) == [4, 8]
    assert best(config)["best"] == best(config)["exported"] == 4
    assert (config.folder / FOLDER / "weights").read_text() == "4"
    await live(learner, 10)
    await learner.checkpoint()
    await learner.publish_last()
    await learner.evaluate()
    assert kept(config) == [4, 10]
    assert best(config)["best"] == 4, "of equal ones the earlier is the best"
    assert best(config)["scores"] == {"2": 0.3, "4": 0.6, "6": 0.5, "8": 0.4, "10": 0.6}


@pytest.mark.parametrize("killed_at", [2, 4])
async def test_a_kill_before_the_policy_was_written_is_made_good(config, killed_at):
    with pytest.raises(RankError):
        await live(begin(config, Saver(killed_at=killed_at)), 9)
    assert best(config)["best"] == killed_at
    assert best(config)["exported"] == (None if killed_at == 2 else 2)
    learner = await resume(config, Saver())
    assert learner.step == killed_at
    await live(learner, 9)
    assert best(config)["exported"] == 4
    assert (config.folder / FOLDER / "weights").read_text() == "4"
    assert kept(config) == [4, 8]


async def test_an_evaluation_that_is_made_again_changes_nothing(config):
    """The checkpoint of step 2 was given up for that of step 4 when the run was killed."""
    await live(begin(config, Saver()), 5)
    again = await resume(config, Saver(), {**SCORES, 4: 0.1, 6: 0.35})
    assert again.step == 4
    await live(again, 9)
    assert kept(config) == [4, 8]
    assert best(config)["scores"] == {"2": 0.3, "4": 0.6, "6": 0.35, "8": 0.4}


async def test_a_run_that_goes_back_behind_its_best_begins_the_comparison_anew(config):
    keep = dataclasses.replace(config.checkpoint, keep=9)
    config = dataclasses.replace(config, checkpoint=keep)
    await live(begin(config, Saver()), 7)
    learner = begin(config, Saver())
    await learner.restore(config.folder / "checkpoints" / "step-2")
    assert not (config.folder / FOLDER).exists()
    assert (config.folder / LATER / "weights").read_text() == "4"
    assert best(config) == {"scores": {}, "best": None, "exported": None}
    assert "step 4, is later than step 2" in learner._tracker.told[0]
    await live(learner, 3)
    assert best(config)["exported"] == 2


async def test_a_run_that_begins_afresh_knows_no_best(config):
    await live(begin(config, Saver()), 7)
    await begin(config, Saver()).publish(0)
    assert best(config)["best"] is None


async def test_without_the_setting_nothing_is_kept(config):
    plain = dataclasses.replace(config.checkpoint, keep_best=False)
    config = dataclasses.replace(config, checkpoint=plain)
    await live(begin(config, FakeTrainer()), 9)  # which cannot save a model
    assert kept(config) == [8]
    assert not (config.folder / FILE).exists()


async def test_the_policy_of_every_checkpoint_is_kept_where_that_is_asked_for(config):
    every = dataclasses.replace(config.checkpoint, keep_best=False, models="all")
    config = dataclasses.replace(config, checkpoint=every)
    with pytest.raises(RankError):
        await live(begin(config, Saver(killed_at=6)), 9)
    assert kept(config) == [4], "no checkpoint without its policy"
    await live(await resume(config, Saver()), 9)
    found = {
        path.name: (path / "weights").read_text() for path in (config.folder / "models").iterdir()
    }
    assert found == {"step-2": "2", "step-4": "4", "step-6": "6", "step-8": "8"}


class Passing(FakeReplay):
    """Three steps are a pass."""

    def __init__(self, trainer):
        self.trainer = trainer

    async def stats(self):
        return {"data/epoch": self.trainer.step / 3}


async def test_a_policy_is_kept_at_the_end_of_each_pass_across_a_resume(config):
    passes = dataclasses.replace(config.checkpoint, keep_best=False, models="epochs")
    config = dataclasses.replace(config, checkpoint=passes)

    def parts(trainer):
        return {"trainers": [trainer], "replay": Passing(trainer)}

    trainer = Saver(killed_at=6)
    with pytest.raises(RankError):
        await live(make(config, **parts(trainer)), 9)
    trainer = Saver()
    learner = make(config, **parts(trainer))
    await learner.restore(snapshots.latest(config.folder / "checkpoints"))
    assert learner.step == 4
    await live(learner, 11)
    found = {
        path.name: (path / "weights").read_text() for path in (config.folder / "models").iterdir()
    }
    assert found == {"epoch-1": "3", "epoch-2": "6", "epoch-3": "9"}


def test_the_score_is_the_mean_over_the_sets():
    sets = {
        "eval/a/mean@8": 0.2,
        "eval/a/mean@8_se": 9.0,
        "eval/a/pass@8": 1.0,
        "eval/b/mean@4": 0.6,
    }
    assert score_of(sets) == pytest.approx(0.4)
    assert score_of({"eval/a/greedy": 0.5, "eval/a/greedy_se": 9.0}) == 0.5
    assert score_of({"eval/a/length_mean": 5.0}) is None


def test_what_is_known_is_read_from_the_folder(tmp_path):
    first = Best(tmp_path)
    first.saw(3, 0.5)
    first.exported()
    assert (Best(tmp_path).step, Best(tmp_path).score, Best(tmp_path).is_exported()) == (
        3,
        0.5,
        True,
    )

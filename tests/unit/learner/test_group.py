"""The acts of the learner's half, with trainers, engines and replay that check the order."""

import asyncio
import dataclasses
import gc
import json
import os
import threading

import numpy as np
import pytest
from ray.exceptions import RayTaskError

from learner import ranks
from learner.books import Past
from learner.checkpoints import contents, published, resuming, snapshots
from learner.group import LearnerGroup
from learner.moving_on import REQUEST, MovingOn
from learner.surroundings import Evaluators, Stage, Surroundings
from oapl import batching, groups_file
from oapl.batching import by_rollout, example
from oapl.config import RunConfig
from oapl.config.sections import AlarmsSection, EvalSection, ReplaySection
from oapl.errors import (
    CheckpointError,
    DeadlineError,
    DiedError,
    DivergedError,
    RankError,
    WeightsError,
)
from oapl.objectives.base import build
from oapl.records import MiniBatch, ProbeReport, Sent, TensorSpec, Verdict
from oapl.remote.promises import Resolved
from oapl.tracking.rollouts import RolloutStore
from tests.support.fakes import publication
from tests.support.makers import make_groups
from tests.support.mixing import NAME
from tests.support.storing import HEADER

pytestmark = pytest.mark.leaping

SPECS = (TensorSpec(name="a", shape=(2,), dtype="float32"),)


class FakeTrainer:
    def __init__(self):
        self.skips = False
        self.diverges = False
        self.exported = []
        self.promised = []

    async def update(self, batch):
        if self.diverges:
            raise DivergedError("not finite 5 times in a row")
        self.batch = batch
        return {"loss/total": 1.0, "faults/skipped_steps": float(self.skips)}

    async def kept_scores(self):
        """A rollout's scores are its place, group by group."""
        assert self.batch.kept_groups, "asked for where none is kept"
        (micro_batch,) = self.batch.micro_batches
        owners = micro_batch.rollout_index[micro_batch.response_mask]
        scores = micro_batch.place[owners].astype(np.float32)
        return list(by_rollout(micro_batch, scores, self.batch.kept_groups))

    async def announce(self, version):
        self.exported.append(version)
        return dataclasses.replace(publication(version), specs=SPECS)

    def promise(self, method, *args):
        self.promised.append((method, *args))
        return Resolved({"send_chunk": Sent(ticket=None, digest=""), "score_probe": ()}[method])

    async def save(self, path):
        path.mkdir()
        (path / "weights").write_text("w")

    async def load(self, path):
        assert (path / "weights").read_text() == "w"

    async def take_over(self, path, keeps):
        assert (path / "weights").read_text() == "w"
        self.kept = set(keeps)


class FakeReplay:
    restored = None

    async def snapshot(self):
        return {"cursor": 7}

    async def restore(self, state):
        self.restored = state

    async def take_over(self, state):
        return state == {"cursor": 7}

    async def stats(self):
        return {"replay/size": 3.0}


class SlowTrainer(FakeTrainer):
    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    async def update(self, batch):
        await asyncio.sleep(self._seconds)
        return await super().update(batch)


class FakeEngines:
    def __init__(self):
        self.loaded = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.error = None

    async def load(self, weights):
        await self.ready.wait()
        if self.error:
            raise self.error
        self.loaded.append(weights.version)
        return ProbeReport(version=weights.version, ratio=1.0, max_difference=0.0, num_tokens=4)

    async def stats(self):
        return {"engine/busy_s": 0.5, "rollout/tokens": 10.0}


class Lines:
    def __init__(self):
        self.rows = []
        self.told = []
        self.checkpoints = []

    def log(self, metrics):
        self.rows.append((metrics.step, dict(metrics.values)))

    def message(self, text):
        self.told.append(text)

    def rollouts(self, rows):
        pass

    def phase(self, name):
        pass

    def alert(self, title, text):
        self.told.append(f"{title}: {text}")

    def made(self, groups, total):
        pass

    def saved(self, checkpoint, step):
        self.checkpoints.append((checkpoint.name, step))


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        run={"name": "r", "dir": str(tmp_path)},
        rollout={"group_size": 2},
        learner={"batch_size": 4},
        sync={"interval": 4},
        checkpoint={"every_syncs": 2},
    )


def make(config, **changes):
    """A learner among fakes; `changes` are fields of what it is put among, or its trainers."""
    config.folder.mkdir(exist_ok=True)
    parts = {
        "trainers": [FakeTrainer()],
        "replay": FakeReplay(),
        "tracker": Lines(),
        "store": RolloutStore(config, config.folder, HEADER),
        "engines": FakeEngines(),
        **changes,
    }
    evaluators = Evaluators(
        waited=parts.pop("evaluate", None),
        beside=parts.pop("evaluate_beside", None),
        aside=parts.pop("aside", None),
    )
    of_stage = {field.name for field in dataclasses.fields(Stage)} & set(parts)
    stage = Stage(**{name: parts.pop(name) for name in of_stage})
    trainers = parts.pop("trainers")
    return LearnerGroup(config, trainers, Surroundings(evaluators=evaluators, **parts), stage)


def groups():
    (group,) = make_groups(build({"name": "oapl"}), num_groups=2, group_size=4)[:1]
    verdicts = tuple({"math": Verdict(kind="accepted", reward=1.0)} for _ in group.scored.rewards)
    return [dataclasses.replace(group, scored=dataclasses.replace(group.scored, verdicts=verdicts))]


def part():
    return MiniBatch(groups=tuple(groups()))


def test_the_log_probs_of_a_step_are_stored_with_its_groups(config):
    trainer = FakeTrainer()
    group = make(config, trainers=[trainer])

    async def live():
        for _ in range(2):
            await group.prepare(part().groups)
            await group.update(part())
            await group.report()

    asyncio.run(live())
    group._store.flush()
    stored = list(groups_file.read(config.folder / "rollouts"))
    assert [one.step for one in stored] == [1, 2]
    for one in stored:
        for place, (scores, rollout) in enumerate(
            zip(one.learner_logprobs, one.rollouts, strict=True)
        ):
            assert scores.tolist() == [float(place)] * len(rollout.token_ids)


def test_where_nothing_is_stored_no_log_probs_are_kept_or_asked_for(config):
    trainer = FakeTrainer()
    tracking = dataclasses.replace(config.tracking, store_groups="off")
    config = dataclasses.replace(config, tracking=tracking)
    group = make(config, trainers=[trainer])

    async def live():
        await group.prepare(part().groups)
        await group.update(part())
        await group.report()

    asyncio.run(live())
    assert trainer.batch.kept_groups == ()


class PreparingTrainer(FakeTrainer):
    prepared: tuple = ()

    async def prepare(self, batches):
        self.prepared = [batch.mini_batch for batch in batches]
        return {"time/prepare_s": 1.0}


@pytest.mark.parametrize(
    ("objective", "updates", "parts", "asked"),
    [
        ({"name": "oapl"}, 2, [0, 1, 0, 1], ()),  # needs nothing: the ranks are not asked
        ({"name": "grpo"}, 2, [0, 1, 0, 1], [0, 1]),
        ({"name": "grpo", "ratio_to": "inference"}, 2, [0, 1, 0, 1], ()),
        ({"name": "grpo"}, 1, [0, 1], [0, 1]),
    ],
)
async def test_a_take_is_divided_and_the_policy_before_it_asked_only_where_it_is_needed(
    config, objective, updates, parts, asked
):
    learner_ = dataclasses.replace(
        config.learner, batch_size=2, mini_batches=2, updates_per_batch=updates
    )
    config = dataclasses.replace(config, learner=learner_, objective=objective)
    trainer = PreparingTrainer()
    made = await make(config, trainers=[trainer]).prepare([*groups(), *groups()])
    assert [part.number for part in made] == parts
    assert [len(part.groups) for part in made] == [1] * len(parts)
    assert trainer.prepared == asked


class Batches(FakeTrainer):
    """Keeps what it is given, and the thread of acts."""

    def __init__(self, acts):
        super().__init__()
        self.batches, self._acts = [], acts

    async def update(self, batch):
        self._acts.append("update")
        self.batches.append(batch)
        return await super().update(batch)


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_step_that_is_foreseen_is_packed_beside_the_one_before_and_is_no_other(
    config, monkeypatch, is_right
):
    acts = []

    def shard(*args, **settings):
        acts.append(f"pack for step {settings['step']}")
        return plainly(*args, **settings)

    def named(name):
        return [replaced(group, name) for group in groups()]

    def replaced(group, name):
        inner = group.scored.group
        inner = dataclasses.replace(inner, prompt=dataclasses.replace(inner.prompt, id=name))
        return dataclasses.replace(group, scored=dataclasses.replace(group.scored, group=inner))

    plainly = batching.shard
    monkeypatch.setattr(batching, "shard", shard)
    trainer = Batches(acts)
    learner = make(
        config,
        trainers=[trainer],
        foresee=lambda count: [] if learner.step else named("b" if is_right else "c"),
    )
    for name in ("a", "b"):
        (only,) = await learner.prepare(named(name))
        await learner.update(only)
        await learner.report()
    assert acts[:3] == ["pack for step 0", "update", "pack for step 1"], "sent, then packed ahead"
    assert acts[3:] == (["update"] if is_right else ["pack for step 1", "update"])
    assert [batch.step for batch in trainer.batches] == [0, 1]


async def test_a_reset_that_is_due_comes_before_the_iteration_and_is_told(config):
    class Trainer(PreparingTrainer):
        resets = 0

        async def reset_reference(self, *, keeps_optimizer=False):
            assert self.prepared == (), "before the tokens are scored"
            assert not keeps_optimizer
            self.resets += 1

    config = dataclasses.replace(
        config,
        objective={"name": "grpo", "kl_coefficient": 1e-4},
        reference=dataclasses.replace(config.reference, reset_every=1),
    )
    trainer, lines = Trainer(), Lines()
    learner = make(config, trainers=[trainer], tracker=lines)
    await learner.prepare(groups())
    assert trainer.resets == 0, "the reference is the model itself"
    assert await learner.update(part())
    await learner.report()
    trainer.prepared = ()
    await learner.prepare(groups())
    assert trainer.resets == 1
    assert await learner.update(part())
    await learner.report()
    assert [values.get("reference/resets") for _, values in lines.rows] == [None, 1.0]


class Reborn(PreparingTrainer):
    def __init__(self):
        super().__init__()
        self.kept = []

    async def reset_reference(self, *, keeps_optimizer=False):
        self.kept.append(keeps_optimizer)


def mixing(config, **options):
    """Two mini-batches of two groups, so that T = 2 iterations are four learner steps."""
    return dataclasses.replace(
        config,
        objective={"name": NAME, **options},
        learner=dataclasses.replace(config.learner, mini_batches=2),
    )


async def test_after_t_iterations_the_reference_is_set_anew_once_and_the_optimizer_kept(config):
    config, trainer, lines = mixing(config, until=2), Reborn(), Lines()
    learner = make(config, trainers=[trainer], tracker=lines)
    for step in (0, 2, 4, 6):
        learner.step = step
        await learner.prepare([*groups(), *groups()])
    assert trainer.kept == [True]
    assert lines.told == ["step 4: the reference is set anew (reincarnation after 2 iterations)"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_resumed_run_is_reborn_when_it_would_have_been(config, after):
    config, trainer, again = mixing(config, until=2), Reborn(), Reborn()
    learner = make(config, trainers=[trainer])
    learner.step = 4
    if after:
        await learner.prepare(groups())
    path = await learner.checkpoint()
    resumed = make(config, trainers=[again])
    await resumed.restore(path)
    await resumed.prepare(groups())
    assert again.kept == ([] if after else [True])


async def test_a_reset_of_another_cause_forgets_the_moments_though_a_rebirth_is_due(config):
    trainer = Reborn()
    config = mixing(config, until=2)
    config = dataclasses.replace(
        config, reference=dataclasses.replace(config.reference, reset_every=4)
    )
    learner = make(config, trainers=[trainer])
    for step in (4, 6, 8):
        learner.step = step
        await learner.prepare(groups())
    assert trainer.kept == [False, False]


async def test_each_mini_batch_has_its_share_of_history(config):
    made = make_groups(build({"name": NAME}), num_groups=8)
    take = [dataclasses.replace(g, is_history=i >= 4) for i, g in enumerate(made)]
    config = mixing(
        dataclasses.replace(config, learner=dataclasses.replace(config.learner, batch_size=8))
    )
    parts = await make(config, trainers=[Reborn()]).prepare(take)
    assert [[group.is_history for group in part.groups] for part in parts] == [
        [False, False, True, True]
    ] * 2


async def test_an_overdue_checkpoint_waits_for_the_end_of_the_iteration(config):
    config = dataclasses.replace(
        config,
        learner=dataclasses.replace(config.learner, batch_size=2, updates_per_batch=2),
        checkpoint=dataclasses.replace(config.checkpoint, max_minutes=1e-9),
    )
    learner = make(config)
    saved = []
    for part in await learner.prepare(groups()):
        await learner.update(part)
        await learner.report()
        saved.append(learner.last_checkpoint is not None)
    assert saved == [False, True]


async def test_with_one_step_a_take_only_what_is_read_before_it_is_asked_for(config):
    options = {"importance": "token", "importance_bounds": [0.5, 2.0], "masked": "leave"}
    for objective, asked in (({"name": "grpo"}, ()), ({"name": "grpo", **options}, [0])):
        trainer = PreparingTrainer()
        one = dataclasses.replace(config, objective=objective)
        await make(one, trainers=[trainer]).prepare(groups())
        assert trainer.prepared == asked


async def test_a_line_of_metrics_holds_every_owners_counters(config):
    lines = Lines()
    learner = make(config, tracker=lines)
    await learner.publish(0)
    assert await learner.update(part())
    await learner.report()
    ((step, values),) = lines.rows
    assert step == 1
    assert values["rollout/tokens"] == 10.0, "workers are asked once a step"
    assert values["reward/trained_mean"] == 0.5, "half of a made group's rewards are 1"
    assert {"loss/total", "replay/size", "weights/probe", "idle/engines", "idle/learner"} <= set(
        values
    )
    assert "engine/busy_s" not in values


async def test_the_cause_of_a_failed_prompt_is_told_once(config):
    class FailingReplay(FakeReplay):
        async def stats(self):
            return {"replay/failed": 2.0}

        async def first_failure(self):
            return "no reference answer"

    lines = Lines()
    learner = make(config, tracker=lines, replay=FailingReplay())
    for _ in range(2):
        await learner.update(part())
        await learner.report()
    assert lines.told == ["a prompt failed: no reference answer; replay/failed counts all that do"]


async def test_examples_that_nobody_judged_have_no_mean_reward(config):
    lines = Lines()
    learner = make(config, tracker=lines)
    judged = groups()[0].scored.group
    examples = [example(judged.prompt, rollout) for rollout in judged.rollouts]
    await learner.update(MiniBatch(groups=tuple(examples)))
    await learner.report()
    ((_, values),) = lines.rows
    assert "loss/total" in values
    assert "reward/trained_mean" not in values


class PromisingTrainer(FakeTrainer):
    """Keeps its promises when it is told to."""

    def __init__(self):
        super().__init__()
        self.coming = asyncio.get_running_loop().create_future()

    def promise(self, method, *args):
        super().promise(method, *args)
        return self.coming


async def test_engines_begin_before_the_learner_has_sent_everything(config):
    trainer, engines = PromisingTrainer(), FakeEngines()
    learner = make(config, trainers=[trainer], engines=engines)
    publishing = asyncio.create_task(learner.publish(4))  # ahead of its period
    await asyncio.sleep(0.01)
    assert engines.loaded == [0]
    assert trainer.promised == [("send_chunk", 0), ("score_probe",)]
    assert not publishing.done(), "the next step would change what is being sent"
    trainer.coming.set_result(Sent(ticket=None, digest=""))
    await asyncio.wait_for(publishing, 5)


async def test_a_learner_that_cannot_send_ends_the_publication_and_the_load(config):
    trainer, engines = PromisingTrainer(), FakeEngines()
    engines.ready.clear()
    learner = make(config, trainers=[trainer], engines=engines)
    publishing = asyncio.create_task(learner.publish(0))
    await asyncio.sleep(0.01)
    trainer.coming.set_exception(WeightsError("norm holds non-finite numbers"))
    with pytest.raises(WeightsError, match="norm holds"):
        await asyncio.wait_for(publishing, 5)
    engines.ready.set()
    await asyncio.sleep(0.01)
    assert engines.loaded == []
    await learner.checkpoint()  # nothing is left to wait for


async def test_what_engines_were_busy_beyond_the_wait_for_the_batch_is_overlap(config, monkeypatch):
    monkeypatch.setattr(ranks.time, "monotonic", asyncio.get_running_loop().time)
    lines = Lines()
    learner = make(config, tracker=lines, trainers=[SlowTrainer(seconds=0.3)])
    await asyncio.sleep(0.35)  # the batch came late, and the engines were busy 0.5 s in all
    await learner.update(part())
    await learner.report()
    ((_, values),) = lines.rows
    assert values["time/both_working_s"] == pytest.approx(0.15)


async def test_a_skipped_step_counts_and_says_so(config):
    trainer = FakeTrainer()
    trainer.skips = True
    learner = make(config, trainers=[trainer])
    assert not await learner.update(part())
    assert learner.step == 1


async def test_a_run_that_diverges_saves_the_offending_groups(config):
    trainer = FakeTrainer()
    trainer.diverges = True
    with pytest.raises(DivergedError):
        await make(config, trainers=[trainer]).update(part())
    saved = list(groups_file.read(config.folder / "diverged-step-0"))
    assert [group.prompt.id for group in saved] == [group.id for group in part().groups]


class Rank(FakeTrainer):
    """Ends its update with `error` after `seconds`."""

    def __init__(self, error, seconds=0.0):
        super().__init__()
        self.error, self.seconds = error, seconds

    async def update(self, batch):
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return await super().update(batch)


async def failure_of(config, *ranks):
    with pytest.raises((RankError, DivergedError)) as caught:
        await make(config, trainers=ranks).update(part())
    return caught.value


async def test_the_rank_that_died_is_named_though_its_peer_speaks_first(config):
    peer = Rank(RuntimeError("Connection closed by peer"))
    error = await failure_of(config, peer, Rank(DiedError("trainer-1 died"), 0.05))
    assert str(error).startswith("learner rank 1 of 2 died after step 0, asked for a learner step")
    assert str(error).endswith("logs/trainer-1.log")
    assert isinstance(error.__cause__, DiedError)


async def test_a_death_ends_the_wait_for_a_peer_that_hangs(config):
    error = await failure_of(config, Rank(None, 60), Rank(DiedError("trainer-1 died")))
    assert "rank 1 of 2 died" in str(error)


async def test_a_rank_that_hangs_is_named_at_the_deadline(config):
    config = dataclasses.replace(config, sync=dataclasses.replace(config.sync, timeout_s=0.05))
    error = await failure_of(config, Rank(None), Rank(None, 60))
    assert "rank 1 of 2 did not answer within 0.05 s (sync.timeout_s)" in str(error)


async def test_what_a_living_rank_raises_on_purpose_comes_through(config):
    diverged = DivergedError("not finite")
    assert await failure_of(config, Rank(None), Rank(diverged, 0.01)) is diverged


async def test_an_unforeseen_failure_is_told_with_its_rank_and_cause(config):
    error = await failure_of(config, Rank(None), Rank(KeyError("x")))
    assert "rank 1 of 2 failed (KeyError: 'x')" in str(error)
    assert isinstance(error.__cause__, KeyError)


async def test_what_a_rank_has_raised_is_told_in_a_line_that_is_the_same_each_time(config):
    """Ray's copy of it begins with a traceback and the process id."""
    copies = []
    for pid in (11, 12):
        there = RuntimeError("out of memory\nTried to allocate")
        copy = RayTaskError("call", f"Traceback of process {pid}", there, pid=pid, ip="::1")
        copies.append(str(await failure_of(config, Rank(copy.as_instanceof_cause()))))
    assert "rank 0 of 1 failed (RuntimeError: out of memory) after step 0" in copies[0]
    assert copies[0] == copies[1]


async def test_restarts_are_counted_in_the_next_line_alone(config):
    lines = Lines()
    learner = make(config, tracker=lines)
    learner.count_restarts({"rank": 2, "replay": 1})
    for _ in range(2):
        await learner.update(part())
        await learner.report()
    assert [v.get("faults/rank_restarts", 0.0) for _, v in lines.rows] == [2.0, 0.0]
    assert [v.get("faults/replay_restarts", 0.0) for _, v in lines.rows] == [1.0, 0.0]


async def test_the_last_publication_changes_neither_version_nor_phase(config):
    engines = FakeEngines()
    learner = make(config, engines=engines)
    await learner.publish(0)
    learner.step = 6
    await learner.publish_last()
    assert engines.loaded == [0, 6]
    assert learner.version == 0


async def test_ahead_of_its_period_a_publication_does_not_wait_for_engines(config):
    engines, lines = FakeEngines(), Lines()
    learner = make(config, engines=engines, tracker=lines)
    await learner.publish(0)
    assert await learner.update(part())
    engines.ready.clear()
    await asyncio.wait_for(learner.publish(4), 1)
    assert (learner.version, learner.begin) == (1, 4)
    assert await learner.update(part()), "a step is made while the engines load"
    await learner.report()
    assert engines.loaded == [0]
    engines.ready.set()
    assert await learner.update(part())
    await learner.report()
    assert engines.loaded == [0, 1]
    assert lines.rows[-1][1]["weights/version"] == 1


async def test_a_publication_waits_for_the_one_before(config):
    engines, trainer = FakeEngines(), FakeTrainer()
    learner = make(config, engines=engines, trainers=[trainer])
    engines.ready.clear()
    await learner.publish(4)
    learner.step = 3
    second = asyncio.ensure_future(learner.publish(8))
    await asyncio.sleep(0.02)
    assert trainer.exported == [0]
    engines.ready.set()
    await asyncio.wait_for(second, 1)
    assert trainer.exported == [0, 3]


async def test_without_a_lead_the_learner_waits_until_an_engine_holds_the_weights(config):
    engines = FakeEngines()
    engines.ready.clear()
    publishing = asyncio.ensure_future(make(config, engines=engines).publish(0))
    await asyncio.sleep(0.02)
    assert not publishing.done()
    engines.ready.set()
    await asyncio.wait_for(publishing, 1)
    assert engines.loaded == [0]


async def test_with_several_versions_the_learner_trains_on_while_engines_load(config):
    several = dataclasses.replace(config, replay=ReplaySection(max_versions=2))
    engines = FakeEngines()
    learner = make(several, engines=engines)
    await learner.publish(0)
    assert engines.loaded == [0], "the first one, which nothing can be trained on before"
    engines.ready.clear()
    learner.step = 4
    await asyncio.wait_for(learner.publish(4), 1)
    assert await learner.update(part())
    learner.step = 8
    following = asyncio.ensure_future(learner.publish(8))
    await asyncio.sleep(0)
    assert not following.done()
    assert engines.loaded == [0]
    engines.ready.set()
    await asyncio.wait_for(following, 1)
    assert engines.loaded[:2] == [0, 4]


async def test_what_goes_wrong_with_a_publication_ahead_is_raised_by_the_next_step(config):
    engines = FakeEngines()
    learner = make(config, engines=engines)
    await learner.publish(0)
    await learner.update(part())
    engines.error = DeadlineError("no worker loads")
    await learner.publish(4)
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError, match="no worker loads"):
        await learner.update(part())


async def test_an_evaluation_ahead_is_of_the_published_version_and_before_the_next_checkpoint(
    config, monkeypatch
):
    lines, gate, asked = Lines(), asyncio.Event(), []

    async def evaluate(name):
        asked.append(name)
        await gate.wait()
        return {"eval/set/mean@8": 1.0}

    monkeypatch.setattr(published, "save", lambda *_: None)
    config = dataclasses.replace(config, eval=EvalSection(every_syncs=1))
    learner = make(config, tracker=lines, evaluate=evaluate)
    learner.step = 3
    await learner.publish(4)
    await learner.update(part())
    saving = asyncio.ensure_future(learner.checkpoint())
    await asyncio.sleep(0.02)
    assert asked == ["step-3"]
    assert not saving.done()
    gate.set()
    await asyncio.wait_for(saving, 5)
    assert lines.rows == [(3, {"eval/set/mean@8": 1.0})]


@pytest.mark.parametrize("at", [2, 4, 5], ids=["ahead", "period's end", "within"])
async def test_with_a_lead_a_checkpoint_brings_the_served_version_back(config, monkeypatch, at):
    """What engines hold is older than the learner, at the period's end too."""
    saved = {}
    monkeypatch.setattr(published, "save", lambda part, weights, _: saved.update(w=weights))
    monkeypatch.setattr(published, "exists", lambda path: "w" in saved)
    monkeypatch.setattr(published, "load", lambda path, _: saved["w"])
    learner = make(config)
    await learner.publish(0)
    learner.step = 1
    await learner.publish(4)
    learner.step = at
    path = await learner.checkpoint()
    engines = FakeEngines()
    again = make(config, engines=engines)
    await again.restore(path)
    assert (again.step, again.version, again.begin) == (at, 1, 4)
    assert engines.loaded == [1]


async def test_with_a_lead_checkpoints_come_at_every_second_period_too(config, monkeypatch):
    monkeypatch.setattr(published, "save", lambda *_: None)
    learner = make(config)
    await learner.publish(0)
    for step in (4, 8, 12, 16):
        learner.step = step - 1
        await learner.publish(step)
        learner.step = step
        await learner.checkpoint_if_due()
    assert sorted(os.listdir(config.folder / "checkpoints")) == ["step-16", "step-8"]


@pytest.mark.parametrize("begin", [0, 4], ids=["its period", "ahead"])
async def test_a_run_that_is_to_stop_waits_neither_for_engines_nor_for_an_evaluation(
    config, monkeypatch, begin
):
    monkeypatch.setattr(published, "save", lambda part, weights, _: saved.append(weights.version))
    saved, asked, engines = [], [], FakeEngines()

    async def evaluate(name):
        asked.append(name)
        await asyncio.sleep(3600)

    learner = make(config, engines=engines, evaluate=evaluate)
    engines.ready.clear()
    learner.step = begin // 4
    publishing = asyncio.ensure_future(learner.publish(begin))
    await asyncio.sleep(0.01)
    learner.abandon()
    await asyncio.wait_for(publishing, 1)
    await asyncio.wait_for(learner.checkpoint(), 1)
    assert saved == ([1] if begin else []), "what was sent ahead is in the checkpoint"

    learner = make(config, engines=FakeEngines(), evaluate=evaluate)
    publishing = asyncio.ensure_future(learner.publish(0))
    await asyncio.sleep(0.01)
    assert asked == ["step-0"]
    learner.abandon()
    await asyncio.wait_for(publishing, 1)
    learner.step = 3
    await asyncio.wait_for(learner.publish(4), 1)
    assert learner.version == 3


async def test_engines_that_only_evaluate_are_given_what_is_evaluated_and_nothing_else(config):
    """And nothing of theirs is in a checkpoint: a resumed run has nobody to give it to."""
    asked, engines = [], FakeEngines()

    async def evaluate(name):
        asked.append(name)
        return {"eval/set/mean@8": 1.0}

    stored = dataclasses.replace(
        config,
        replay=ReplaySection(source="stored", path=("x",)),
        eval=EvalSection(every_syncs=2),
    )
    learner = make(stored, engines=engines, evaluate=evaluate)
    for step in (0, 4, 8, 12):
        learner.step = step
        await learner.publish(step)
    assert engines.loaded == [0, 8]
    assert asked == ["step-0", "step-8"]
    await learner.publish_last()
    assert engines.loaded == [0, 8, 12], "what was numbered, and not sent, is sent for the last one"
    learner.step = 14
    again = make(stored, engines=FakeEngines(), evaluate=evaluate)
    await again.restore(await learner.checkpoint())
    assert (again.step, again.version, again.begin) == (14, 12, 12)
    learner.step = again.step = 16
    for one in (learner, again):
        await one.publish(16)
    assert asked[2:] == ["step-16", "step-16"], "a resumed run keeps the count"


async def test_what_went_wrong_beside_training_is_not_left_untold(config):
    told, engines = [], FakeEngines()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    engines.error = DeadlineError("no worker loads")
    learner = make(config, engines=engines)
    await learner.publish(4)
    await asyncio.sleep(0.01)
    await learner.close()
    del learner
    gc.collect()
    assert told == []


async def test_an_abandoned_publication_is_made_and_counted_once_more_after_a_resume(config):
    learner = make(config)
    for step in (0, 4, 8):
        learner.step = step
        await learner.publish(step)
    path = await learner.checkpoint()
    again = make(config)
    await again.restore(path)
    assert again.begin == -1
    await again.publish(8)
    state = contents.read_state(await again.checkpoint())
    assert state == contents.read_state(path)


@pytest.mark.parametrize("interval", [3, 4, 5, 8])
@pytest.mark.parametrize("at", [8, 10], ids=["at a synchronisation", "between two"])
async def test_another_interval_may_follow_and_what_engines_served_is_the_checkpoint_s_word(
    config, monkeypatch, interval, at
):
    """Of a period that has ended they need nothing; of one that goes on they need its weights."""
    saved = {}

    def save(part, weights, _):
        saved["w"] = weights

    monkeypatch.setattr(published, "save", save)
    monkeypatch.setattr(published, "exists", lambda path: "w" in saved)
    monkeypatch.setattr(published, "load", lambda path, _: saved["w"])
    learner = make(config)
    for step in (0, 4) if at == 8 else (0, 4, 8):
        learner.step = step
        await learner.publish(step)
    learner.step = at
    path = await learner.checkpoint()
    other = dataclasses.replace(config, sync=dataclasses.replace(config.sync, interval=interval))
    engines = FakeEngines()
    again = make(other, engines=engines)
    await again.restore(path)
    assert engines.loaded == ([] if at == 8 else [8])
    assert again.version == (-1 if at == 8 else 8)


async def test_checkpoints_come_at_every_second_synchronisation(config):
    learner = make(config)
    for step in (0, 4, 8, 12):
        learner.step = step
        await learner.checkpoint_if_due()
        await learner.publish(step)
    assert os.listdir(config.folder / "checkpoints") == ["step-8"]


async def test_a_checkpoint_at_a_synchronisation_brings_step_and_replay_back(config):
    learner = make(config)
    learner.step = 8
    path = await learner.checkpoint()
    replay = FakeReplay()
    again = make(config, replay=replay)
    await again.restore(path)
    assert replay.restored == {"cursor": 7}
    assert (again.step, again.version) == (8, -1), "learn publishes the learner's own weights"
    assert again.last_checkpoint == learner.last_checkpoint == path
    assert json.loads((path / "state.json").read_text())["step"] == 8


async def test_a_checkpoint_of_another_version_is_refused_before_any_rank_is_asked(
    config, monkeypatch
):
    learner, asked = make(config), []
    monkeypatch.setattr(contents, "FORMAT", 1)
    path = await learner.checkpoint()
    monkeypatch.undo()

    class Asked(FakeTrainer):
        async def load(self, path):
            asked.append(path)

    with pytest.raises(CheckpointError, match=r"is of format 1, .*resume with the version"):
        await make(config, trainers=[Asked()]).restore(path)
    part = snapshots.begin(path.parent, 4)
    contents.write_state(part, {"step": 4})
    (part / "replay.pkl").write_bytes(b"coapl.gone\nLedger\n.")
    path = snapshots.commit(part, 4)
    with pytest.raises(CheckpointError, match=r"step-4: replay\.pkl .*resume with the version"):
        await make(config, trainers=[Asked()]).restore(path)
    assert asked == []


# --- stages


async def test_a_stage_counts_from_its_beginning_and_what_it_writes_counts_on(config, monkeypatch):
    monkeypatch.setattr(published, "save", lambda *_: None)
    lines, labels = Lines(), []

    async def evaluate(name):
        labels.append(name)
        return {"eval/set/mean@8": 0.5}

    moving = MovingOn("second", 0, config.folder)
    learner = make(config, tracker=lines, evaluate=evaluate, first=1000, moving=moving)
    await learner.publish(0)
    await learner.update(part())
    await learner.report()
    assert (learner.step, learner.total, learner.version) == (1, 1001, 0)
    assert labels == ["step-1000"]
    assert [step for step, _ in lines.rows] == [1000, 1001]
    assert lines.rows[1][1]["weights/version"] == 1000
    path = await learner.checkpoint()
    assert path.name == "step-1001"
    state = contents.read_state(path)
    assert (state["step"], state["stage"]["name"]) == (1, "second")
    again = make(config, first=1000, moving=MovingOn("second", 0, config.folder))
    await again.restore(path)
    assert (again.step, again.total) == (1, 1001)


async def test_a_stage_ends_at_an_evaluation_by_hand_between_two_iterations(config):
    scores = iter((0.5, 0.4))

    async def evaluate(name):
        return {"eval/set/mean@8": next(scores)}

    ended = []
    moving = MovingOn("second", 1, config.folder)
    moving.begin(lambda: ended.append(moving.cause))
    learner = make(config, evaluate=evaluate, moving=moving)
    await learner.evaluate()
    assert not ended
    await learner.evaluate()
    assert ended == ["1 evaluations no better than 0.500"]
    by_hand = MovingOn("second", 0, config.folder)
    by_hand.begin(lambda: ended.append(by_hand.cause))
    learner = make(config, moving=by_hand)
    (config.folder / REQUEST).write_text("second\n")
    await learner.update(part())
    assert len(ended) == 1
    await learner.report()
    assert ended[1:] == ["asked for by hand"]


@pytest.mark.parametrize("parts", [("optimizer",), ("reference", "data"), ("data",)], ids=str)
async def test_a_stage_takes_over_what_it_keeps_and_begins_at_step_0(config, parts):
    path = await make(config).checkpoint()
    trainer = FakeTrainer()
    learner = make(config, trainers=[trainer], first=4)
    assert await learner.take_over(path, parts)
    of_ranks = set(parts) - {"data"}
    assert getattr(trainer, "kept", set()) == of_ranks
    assert (learner.step, learner.version, learner.last_checkpoint) == (0, -1, None)


async def test_a_stage_with_other_data_says_that_it_begins_there_anew(config):
    class Other(FakeReplay):
        async def snapshot(self):
            return {"cursor": 8}

    path = await make(config, replay=Other()).checkpoint()
    assert not await make(config, first=4).take_over(path, ("data",))
    assert await make(config, first=4).take_over(path, ("optimizer",))


# Accounts and alarms


class SlowEngines(FakeEngines):
    async def load(self, weights):
        await asyncio.sleep(0.5)
        return await super().load(weights)


async def step(learner):
    for one in await learner.prepare(groups()):
        await learner.update(one)
        await learner.report()


async def test_every_second_of_the_learner_is_in_one_line_and_one_state(config, monkeypatch):
    now = asyncio.get_running_loop().time
    monkeypatch.setattr(ranks.time, "monotonic", now)

    async def evaluate(name):
        await asyncio.sleep(0.75)
        return {"eval/s/mean@8": 1.0}

    lines, began = Lines(), now()
    config = dataclasses.replace(config, eval=EvalSection(every_syncs=1))
    learner = make(
        config,
        tracker=lines,
        trainers=[SlowTrainer(0.25)],
        engines=SlowEngines(),
        evaluate=evaluate,
    )
    await asyncio.sleep(1.0)  # everything starts
    await learner.publish(0)
    await asyncio.sleep(0.375)  # until the period's first batch is there
    await step(learner)
    await asyncio.sleep(0.125)
    await step(learner)
    learner.step = 4
    await learner.publish(4)
    await asyncio.sleep(0.0625)
    await step(learner)
    learner.finish()
    await learner.evaluate()
    await asyncio.sleep(0.0625)
    await learner.close()
    rows = [values for _, values in lines.rows if "seconds/devices" in values]
    found: dict[str, float] = {}
    for values in rows:
        for name, seconds in values.items():
            if name.startswith("seconds/learner/"):
                state = name.rpartition("/")[2]
                found[state] = found.get(state, 0.0) + seconds
    expected = {
        "start": 1.5,  # and until the engines hold the first weights
        "publish": 0.5,
        "evaluate": 2.25,
        "synchronise": 0.4375,
        "update": 0.75,
        "data": 0.125,
        "finish": 0.0625,
    }
    spent = {state: seconds for state, seconds in found.items() if seconds > 1e-3}
    assert spent == pytest.approx(expected, abs=0.01)
    assert sum(found.values()) == pytest.approx(now() - began, rel=0.02)
    assert rows[-1]["total/hours"] * 3600 == pytest.approx(now() - began, rel=0.02)
    assert rows[-1]["total/ettr"] == pytest.approx(1 - 1.5 / (now() - began), rel=0.02)
    assert "time/step_s" not in rows[-1], "what follows the last step is no step"


async def test_how_a_run_ends_its_last_seconds_are_written_unless_nothing_can_be(config):
    class Full(Lines):
        def log(self, metrics):
            raise OSError(28, "No space left on device")

    await make(config, tracker=Full()).close()
    lines = Lines()
    await make(config, tracker=lines).close()
    assert [step for step, _ in lines.rows] == [0]


async def test_a_checkpoint_that_is_whole_is_told(config):
    lines = Lines()
    await make(config, tracker=lines).checkpoint()
    assert lines.checkpoints == [("step-0", 0)]


class Repeating(FakeReplay):
    async def stats(self):
        return {"rollout/repetition_rate": 0.9}


def alarming(config, **settings):
    return dataclasses.replace(config, alarms=AlarmsSection(window=1, **settings))


async def test_an_alarm_stops_the_run_where_it_shall(config):
    ended, lines = [], Lines()
    config = alarming(config, actions={"repetition": "stop"})
    learner = make(config, tracker=lines, replay=Repeating())
    learner.ends_by(lambda: ended.append(learner.step))
    for _ in range(3):
        await step(learner)
    assert ended == [1], "once"
    assert [values["alarms/repetition"] for _, values in lines.rows] == [1.0] * 3
    assert lines.told[0].startswith("alarm repetition at step 1: 90% of the 4-grams")
    (kept,) = (config.folder / "alarms").iterdir()
    assert json.loads(kept.read_text())["rollout"]["response"] == ""


async def test_an_alarm_resets_the_reference_before_the_next_iteration(config):
    class Trainer(PreparingTrainer):
        resets = 0

        async def reset_reference(self, *, keeps_optimizer=False):
            self.resets += 1

    config = alarming(
        dataclasses.replace(config, objective={"name": "grpo", "kl_coefficient": 1e-4}),
        actions={"repetition": "reset_reference"},
    )
    trainer, lines = Trainer(), Lines()
    learner = make(config, trainers=[trainer], tracker=lines, replay=Repeating())
    await step(learner)
    assert trainer.resets == 0
    await step(learner)
    await step(learner)
    assert trainer.resets == 1
    assert "step 1: the reference is set anew (alarm repetition)" in lines.told


async def test_a_stage_knows_no_alarm_of_the_one_before_and_a_resumed_one_its_own(config):
    row = {"time/step_s": 1.0, "rollout/repetition_rate": 0.9}
    told = []
    for begin in (0, 5):
        lines = Lines()
        past = Past(rows=[{"step": begin + 1, **row}, {"step": 3, "eval/s/greedy": 0.5}])
        learner = make(
            alarming(config), tracker=lines, replay=Repeating(), past=past, first=begin and 6
        )
        await step(learner)
        told.append(len(lines.told))
    assert told == [0, 2], "message and alert"


# Checkpoints beside training


class SlowWriter(FakeTrainer):
    """Writes when it is told to, as a thread of a rank would."""

    def __init__(self):
        super().__init__()
        self.path, self.error = None, None

    async def save(self, path, beside=False):
        if not beside:
            return await super().save(path)
        self.path = path

    async def saved(self, waits=False):
        if self.path is not None and waits:
            await self.write()
        return self.path is None

    async def write(self):
        if self.error is not None:
            raise self.error
        await super().save(self.path)
        self.path = None


def beside(config, **options):
    section = dataclasses.replace(config.checkpoint, every_syncs=1, beside=True, **options)
    return dataclasses.replace(config, checkpoint=section)


async def saved_and_trained(learner, step_at=4):
    learner.step = step_at
    await learner.checkpoint_if_due()
    await step(learner)


def names(config):
    folder = config.folder / "checkpoints"
    return sorted(os.listdir(folder)) if folder.exists() else []


async def until_committed(learner):
    async with asyncio.timeout(5):
        while learner.last_checkpoint is None:
            await asyncio.sleep(0.01)
            await step(learner)


async def test_training_goes_on_while_a_checkpoint_is_written_and_it_is_of_when_it_was_begun(
    config,
):
    config, trainer, lines = beside(config), SlowWriter(), Lines()
    learner = make(config, trainers=[trainer], tracker=lines)
    await saved_and_trained(learner)
    assert (learner.step, learner.last_checkpoint) == (5, None)
    assert names(config) == [".step-4.part"], "a kill now leaves none"
    await trainer.write()
    await until_committed(learner)
    assert names(config) == ["step-4"]
    assert lines.checkpoints == [("step-4", 4)]
    assert contents.read_state(learner.last_checkpoint)["step"] == 4
    resuming.verify(learner.last_checkpoint)
    again = make(config)
    await again.restore(learner.last_checkpoint)
    assert again.step == 4


async def test_old_checkpoints_are_removed_beside_what_the_learner_waits_for(config, monkeypatch):
    """On a disk that is far away that takes long; meanwhile waits are looked at."""
    main, prune, threads = threading.get_ident(), snapshots.prune, []

    def remembered(*given):
        threads.append(threading.get_ident())
        prune(*given)

    monkeypatch.setattr(snapshots, "prune", remembered)
    await make(config).checkpoint()
    assert threads != []
    assert main not in threads


async def test_the_next_checkpoint_and_the_last_wait_for_the_one_that_is_written(config):
    config, lines = beside(config, keep=3), Lines()
    learner = make(config, trainers=[SlowWriter()], tracker=lines)
    await saved_and_trained(learner, 4)
    await saved_and_trained(learner, 8)
    assert names(config) == [".step-8.part", "step-4"]
    await learner.checkpoint()
    assert names(config) == ["step-4", "step-8", "step-9"]
    assert [step for _, step in lines.checkpoints] == [4, 8, 9]


async def test_what_goes_wrong_with_a_checkpoint_beside_training_is_raised_by_the_next(config):
    trainer = SlowWriter()
    learner = make(beside(config), trainers=[trainer])
    await saved_and_trained(learner)
    trainer.error = OSError(28, "No space left on device")

    async def saved(waits=False):
        await trainer.write()

    trainer.saved = saved
    with pytest.raises(RankError, match="asked for a checkpoint beside training"):
        await step(learner)


async def test_a_rank_that_does_not_write_in_time_leaves_no_checkpoint(config):
    class Stuck(SlowWriter):
        async def saved(self, waits=False):
            return False

    config = beside(config)
    learner = make(config, trainers=[Stuck()])
    await saved_and_trained(learner)
    with pytest.raises(DeadlineError, match=r"ranks have not written .*\.step-4\.part"):
        await learner.checkpoint()
    assert names(config) == [".step-4.part"]


async def test_a_run_that_is_killed_while_it_writes_goes_on_from_the_one_before(config):
    config = beside(config)
    learner = make(config, trainers=[SlowWriter()])
    learner.step = 3
    before = await learner.checkpoint()
    await saved_and_trained(learner, 4)
    await learner.close()
    assert snapshots.latest(before.parent) == before
    again = make(config)
    await again.restore(before)
    again.step = 8
    await again.checkpoint()
    assert names(config) == ["step-3", "step-8"], "what was half written is gone"


async def test_checkpoints_that_take_much_of_the_time_are_told_once_with_the_remedy(
    config, monkeypatch
):
    monkeypatch.setattr(ranks.time, "monotonic", asyncio.get_running_loop().time)

    class Slow(FakeTrainer):
        async def save(self, path):
            await asyncio.sleep(0.01)
            await super().save(path)

    lines = Lines()
    section = dataclasses.replace(config.checkpoint, every_syncs=1)
    learner = make(
        dataclasses.replace(config, checkpoint=section), trainers=[Slow()], tracker=lines
    )
    for learner.step in (4, 8, 12, 16, 20):
        await learner.checkpoint_if_due()
        assert len(lines.told) == (learner.step >= 12), "three are enough to say so"
    assert "(checkpoint.beside = true)" in lines.told[0]

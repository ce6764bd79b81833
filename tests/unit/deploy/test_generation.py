"""What `oapl generate` finds done, what it hands out, and what it makes of groups."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pandas
import pytest

from deploy.checks.generation import FOLDER, RECIPE, Generation, generating
from deploy.checks.preflight import preflight
from deploy.processes.roles import demands
from deploy.run import generation
from deploy.run.batches import build_replay
from deploy.run.generation import TELL_S, Progress, generate
from deploy.run.leg import WHOLE
from deploy.run.restarts import Failures, of_the_run
from deploy.run.signals import Stop
from deploy.run.stored_answers import as_stored
from oapl import groups_file
from oapl.config import RunConfig
from oapl.config.toml import load_config
from oapl.errors import InputError, ReplayError, VerifierError
from oapl.groups_file import pass_rates
from oapl.records import WorkerId
from oapl.tracking import restarts
from oapl.tracking.tracker import Tracker
from tests.support.makers import make_group, make_model
from tests.support.replaying import scored

ANN = WorkerId(index=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_model(folder / "model")
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(5)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def config_of(files, tmp_path):
    def make(*overrides):
        base = [f"run.dir={tmp_path}", f"model.path={files / 'model'}", "data.sources.0.name=sums"]
        of_size = [f"data.sources.0.path={files / 'sums.jsonl'}", "rollout.group_size=2"]
        of_size.append("rollout.max_tokens=64")
        return generating(load_config(None, [*base, *of_size, *overrides]))

    return make


def look(config) -> Generation:
    return preflight(config, purpose="generate").generation


def store(work: Generation, ids, rows_per_shard=4):
    """Leave what a killed command leaves: whole shards."""
    work.begin()
    writer = groups_file.Writer(work.folder, work.header, rows_per_shard)
    for id in ids:
        group = make_group([3, 4], name=id, version=-1)
        writer.add(as_stored(group))


def test_each_question_is_answered_once_unless_the_recipe_says_more(config_of):
    assert look(config_of()).total == 5
    report = preflight(
        config_of("data.epochs=3", "replay.source=stored", "replay.path=x"), purpose="generate"
    )
    assert report.generation.total == 15
    assert report.facts["groups"].startswith("15 groups of 2, in ")
    assert "engine" in report.facts
    assert "learner rank" not in report.facts
    asked = {d.what: d.count for d in demands(config_of("rollout.num_engines=2"), "generate")}
    assert asked == {"learner rank": 0, "rollout worker": 2, "replay buffer": 1, "reward server": 1}


async def test_what_whole_shards_hold_is_done_and_every_other_draw_is_handed_out_once(config_of):
    config = config_of("data.epochs=2")
    store(look(config), ["sums:0@0", "sums:3@1", "sums:1@0"])  # two to a shard: the third is lost
    found = look(config)
    assert found.done == {"sums:0@0", "sums:3@1"}
    assert str(found).startswith("10 groups of 2, 2 of them are there")
    buffer = build_replay(config, done=found.done)
    handed, taken = [], 0
    while prompts := await buffer.next_prompts(ANN, -1, 3, 0.01):
        handed += [prompt.id for prompt in prompts]
        for prompt in prompts:
            assert await buffer.put(ANN, [scored(prompt, version=-1)]) == ["kept"]
            (group,) = await buffer.take(1, 1.0)
            taken += 1
            await buffer.trained([group.id], taken)
    every = {f"sums:{row}@{epoch}" for row in range(5) for epoch in range(2)}
    assert sorted(handed) == sorted(every - found.done)
    assert await buffer.take(1, 1.0) is None, "all is there, and nobody waits for more"


async def test_the_end_of_the_data_is_seen_though_as_many_were_asked_for_as_there_are(config_of):
    buffer = build_replay(config_of(), done=frozenset())
    prompts = await buffer.next_prompts(ANN, -1, 5, 0.01)
    for taken, prompt in enumerate(prompts, 1):
        await buffer.put(ANN, [scored(prompt, version=-1)])
        (group,) = await buffer.take(1, 1.0)
        await buffer.trained([group.id], taken)
    assert await buffer.next_prompts(ANN, -1, 5, 0.01) == []
    assert await buffer.take(1, 1.0) is None


async def test_a_draw_that_fails_holds_nothing_up_and_is_made_again_by_the_next_command(config_of):
    buffer = build_replay(config_of(), done=frozenset())
    prompts = await buffer.next_prompts(ANN, -1, 9, 0.01)
    await buffer.fail(ANN, prompts[0], "no verdict", 7)
    for prompt in prompts[1:]:
        await buffer.put(ANN, [scored(prompt, version=-1)])
    assert await buffer.next_prompts(ANN, -1, 9, 0.01) == []
    assert len(await buffer.take(9, 1.0)) == 4
    assert await buffer.first_failure() == "no verdict"


def test_a_command_that_finds_all_done_leaves_the_pass_rates_that_a_kill_prevented(config_of):
    config = config_of()
    work = look(config)
    store(work, [f"sums:{row}@0" for row in range(5)], rows_per_shard=2)
    assert generate(config).groups == 5
    assert len(pandas.read_parquet(work.folder)) == 10, "whatever lies beside the shards"
    assert pass_rates.read(work.folder / pass_rates.FILE) == {pass_rates.digest(""): 0.5}


OTHERS = {
    "rollout.temperature=0.5": ("rollout.temperature = 0.5", "were made with 1.0"),
    "rollout.group_size=4": ("rollout.group_size = 4", "were made with 2"),
    "reward.on_failure=-1.0": ("reward.on_failure = -1.0", "were made with 0.0"),
    "data.sources.0.answer_key=prompt": ("data.sources = ", "were made with"),
}


@pytest.mark.parametrize("override", OTHERS)
def test_groups_of_another_recipe_are_not_added_to(config_of, override):
    store(look(config_of()), ["sums:0@0", "sums:1@0"])
    with pytest.raises(InputError) as caught:
        look(config_of(override))
    for words in (*OTHERS[override], "set it back, or choose another run.name"):
        assert words in str(caught.value)
    assert look(config_of("data.epochs=4", "run.seed=5", "rollout.num_engines=2")).total == 20


def test_other_rows_and_other_weights_are_another_recipe(config_of, files, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes((files / "sums.jsonl").read_bytes())
    mine = f"data.sources.0.path={path}"
    store(look(config_of(mine)), ["sums:0@0", "sums:1@0"])
    path.write_text(path.read_text().replace("4+1", "8+1"))
    with pytest.raises(InputError, match=r"the rows of data.sources.* have changed since"):
        look(config_of(mine))


def test_groups_of_another_command_are_left_alone(config_of):
    work = look(config_of())
    trained = dataclasses.replace(work, header=dataclasses.replace(work.header, made_by="train"))
    store(trained, ["sums:0@0", "sums:1@0"])
    with pytest.raises(InputError, match=r"did not make .made by train.; choose another run.name"):
        look(config_of())
    assert (work.folder.name, (work.folder / RECIPE).is_file()) == (FOLDER, True)


def test_what_an_engine_makes_before_it_was_given_weights_is_of_the_model_itself():
    stored = as_stored(make_group([2, 3], version=-1))
    assert stored.version == 0
    assert {rollout.first_version for rollout in stored.rollouts} == {0}
    assert stored.places == (0, 1)


@pytest.fixture
async def attempt(tmp_path, monkeypatch):
    """Attempts, each of which meets what is given for it."""
    config = RunConfig(
        run={"name": "mine", "dir": str(tmp_path)},
        restarts={"replay": {"max_restarts": 2, "first_pause_s": 0.0}},
    )
    config.folder.mkdir()
    work = Generation(
        folder=tmp_path, header=None, recipe={}, total=10, done=frozenset(), group_size=2
    )
    monkeypatch.setattr(generation, "done_in", lambda folder: frozenset("abc"))
    monkeypatch.setattr(generation, "processes_of", lambda *_, **__: contextlib.nullcontext())
    told, stop, tracker = [], Stop(), Tracker()
    tracker.message = told.append
    progress = Progress(work, told.append, lambda *how: None)
    failures = of_the_run(config)

    async def make(met):
        async def run(*_):
            if isinstance(met, Exception):
                raise met
            return met

        monkeypatch.setattr(generation, "_run", run)
        arguments = (config, tracker, stop, progress, (), WHOLE, failures)
        return await generation._attempt(*arguments)

    return make, progress, told, config.folder, stop


async def test_a_lost_queue_takes_a_generation_back_to_its_last_shard_as_often_as_allowed(attempt):
    make, progress, told, folder, _ = attempt
    assert await make("") == ""
    for left in (1, 0):
        assert await make(ReplayError("replay died")) is None
        words = f"replay died; starting all processes again, {left} restarts left "
        assert told[-2] == f"{words}(restarts.replay.max_restarts)"
        assert told[-1] == "going on: 3 of 10 groups are there"
        assert progress.work.done == frozenset("abc")
    with pytest.raises(ReplayError):
        await make(ReplayError("replay died"))
    assert [one.part for one in restarts.read(folder)] == ["replay", "replay"]


async def test_a_long_attempt_of_a_generation_forgives_the_losses_before_it(attempt, monkeypatch):
    make, *_ = attempt
    lived = []
    monkeypatch.setattr(Failures, "add", lambda self, lived_s=0.0: lived.append(lived_s))
    assert await make(ReplayError("replay died")) is None
    assert 0 < lived[0] < 60


async def test_what_is_no_loss_or_meets_a_stop_ends_a_generation(attempt):
    make, _, _, folder, stop = attempt
    with pytest.raises(VerifierError):
        await make(VerifierError("no verdict"))
    stop.signal = 15
    with pytest.raises(ReplayError):
        await make(ReplayError("replay died"))
    assert [*restarts.read(folder)] == []


def test_progress_is_told_with_rates_that_begin_at_the_first_hand_out(tmp_path):
    work = Generation(
        folder=tmp_path, header=None, recipe={}, total=10, done=frozenset("ab"), group_size=2
    )
    told, made, now = [], [], [1000.0]
    progress = Progress(work, told.append, lambda *how: made.append(how), lambda: now[0])
    assert told == ["going on: 2 of 10 groups are there"]
    scored = make_group([5, 15], rewards=[1, 0])
    scored = dataclasses.replace(scored, group=dataclasses.replace(scored.group, seconds=10.0))
    for seconds in (90.0, TELL_S, 1.0, TELL_S - 1):
        now[0] += seconds
        progress.add(scored)
    assert told[1:] == [
        "4 of 10 groups, mean reward 0.500; 0.05 groups and 1 tokens a second, 120 s to go",
        "6 of 10 groups, mean reward 0.500; 0.06 groups and 1 tokens a second, 70 s to go",
    ]
    assert made == [(groups, 10) for groups in range(2, 7)]
    now[0] += 5.0
    progress.tell()
    outcome = progress.outcome(0)
    assert (outcome.tokens, outcome.seconds) == (80, 75.0)

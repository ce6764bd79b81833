"""Which checkpoint a run goes on from, asked before anything is started."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from learner.checkpoints import contents, origin, resuming, snapshots
from oapl.config import RunConfig
from oapl.errors import CheckpointError, InputError
from oapl.records import CreditedGroup
from tests.support.makers import make_group


def config(folder, resume="auto", **sections):
    return RunConfig(
        run={"name": "run", "dir": str(folder)}, checkpoint={"resume": resume}, **sections
    )


def checkpoint(folder, step, model=None, shape=None, critic=""):
    part = snapshots.begin(folder / "run" / "checkpoints", step)
    contents.write_state(part, {"step": step})
    if model is not None:
        models = {"model": {"path": str(model)}, "critic": {"path": str(critic)}}
        origin.write(part, origin.origins_of(config(folder, **models)))
    if shape is not None:
        (part / "trainer").mkdir()
        (part / "trainer" / "state.json").write_text(json.dumps({"state": {}, "shape": shape}))
    return snapshots.commit(part, step)


def damage(checkpoint, how):
    state = checkpoint / "state.json"
    if how == "another byte":
        state.write_text(state.read_text().replace("step", "stop"))
    elif how == "cut":
        state.write_text(state.read_text()[:5])
    elif how == "gone":
        state.unlink()
    else:
        (checkpoint / "digests.json").unlink()


def test_auto_is_the_newest_and_nothing_where_there_is_none(tmp_path):
    assert resuming.resume_from(config(tmp_path)) is None
    checkpoint(tmp_path, 4)
    newest = checkpoint(tmp_path, 12)
    assert resuming.resume_from(config(tmp_path)) == newest
    assert resuming.step_of(newest) == 12


def test_never_refuses_a_folder_that_holds_one(tmp_path):
    assert resuming.resume_from(config(tmp_path, "never")) is None
    checkpoint(tmp_path, 4)
    with pytest.raises(InputError, match=r'checkpoint\.resume = "never", but .*step-4 exists'):
        resuming.resume_from(config(tmp_path, "never"))


def test_a_path_must_be_a_checkpoint(tmp_path):
    older = checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8)
    assert resuming.resume_from(config(tmp_path, str(older))) == older
    with pytest.raises(InputError, match="is no checkpoint"):
        resuming.resume_from(config(tmp_path, str(tmp_path)))


@pytest.mark.parametrize("resume", ["auto", "run/checkpoints/step-4"])
def test_one_of_an_earlier_build_is_refused_before_anything_starts(tmp_path, monkeypatch, resume):
    monkeypatch.chdir(tmp_path)
    part = snapshots.begin(tmp_path / "run" / "checkpoints", 4)
    (part / "state.json").write_text('{"step": 4, "version": 0, "begin": 0, "publications": 1}')
    snapshots.commit(part, 4)
    with pytest.raises(CheckpointError, match=r"step-4 is of format 1, .*resume with the version"):
        resuming.resume_from(config(tmp_path, resume))


def test_a_folder_of_another_name_tells_no_step(tmp_path):
    with pytest.raises(InputError, match="is not called step-N"):
        resuming.step_of(tmp_path / "best")


DAMAGES = ["another byte", "cut", "gone", "no digests"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_one_is_named_with_the_newest_older_one_that_is_whole(tmp_path, how):
    for step in (4, 8, 12):
        checkpoint(tmp_path, step)
    damage(tmp_path / "run" / "checkpoints" / "step-8", "gone")
    newest = tmp_path / "run" / "checkpoints" / "step-12"
    damage(newest, how)
    with pytest.raises(CheckpointError) as caught:
        resuming.verify(newest)
    assert str(caught.value).startswith(f"checkpoint {newest}: ")
    assert str(caught.value).endswith(f"checkpoint.resume={newest.with_name('step-4')}")
    if how in ("cut", "gone"):
        with pytest.raises(CheckpointError, match=r"checkpoint\.resume=.*step-4$"):
            resuming.resume_from(config(tmp_path))


def test_a_damaged_one_without_another_says_so_and_a_whole_one_nothing(tmp_path):
    only = checkpoint(tmp_path, 4)
    resuming.verify(only)
    damage(only, "gone")
    with pytest.raises(CheckpointError, match=r"state\.json is missing; no older one is whole"):
        resuming.verify(only)


SHAPE = {"learner.num_ranks": 1, "learner.zero_stage": 1, "learner.precision": "bf16"}


def test_another_precision_of_the_learner_is_refused_before_anything_starts(tmp_path):
    checkpoint(tmp_path, 4, shape=SHAPE | {"learner.precision": "fp32"})
    with pytest.raises(InputError, match=r"^learner\.precision = .*set learner\.precision=fp32,"):
        resuming.resume_from(config(tmp_path))
    assert resuming.resume_from(config(tmp_path, learner={"precision": "fp32"})) is not None


@pytest.mark.parametrize(("setting", "other"), [("num_ranks", 2), ("zero_stage", 3)])
def test_other_ranks_and_another_stage_go_on_unless_deepspeed_wrote_the_checkpoint(
    tmp_path, setting, other
):
    learner = {setting: other}
    found = checkpoint(tmp_path, 4, shape=SHAPE)
    assert resuming.resume_from(config(tmp_path, learner=learner)) == found
    (found / "trainer" / "deepspeed").mkdir()
    saved = SHAPE[f"learner.{setting}"]
    with pytest.raises(
        InputError,
        match=rf"^learner\.{setting} = {other}, .*set learner\.{setting}={saved} until the run has "
        "saved once more, which then fits any,",
    ):
        resuming.resume_from(config(tmp_path, learner=learner))
    assert resuming.resume_from(config(tmp_path)) == found


def model(folder, seed=0, width=8, files=1):
    chance = np.random.default_rng(seed)
    tensors = {f"layer.{n}": chance.normal(size=(width, 4)).astype(np.float32) for n in range(4)}
    folder.mkdir()
    for number in range(files):
        share = {name: tensors[name] for name in sorted(tensors)[number::files]}
        save_file(share, folder / f"model-{number}.safetensors", metadata={"format": "pt"})
    return folder


def test_another_model_is_refused_whether_its_shape_is_the_same_or_not(tmp_path):
    mine = model(tmp_path / "mine")
    found = checkpoint(tmp_path, 4, model=mine)
    for other in (model(tmp_path / "other", seed=1), model(tmp_path / "wide", width=16)):
        with pytest.raises(InputError, match=rf"model\.path = '{other}', not '{mine}': {found} "):
            resuming.resume_from(config(tmp_path, model={"path": str(other)}))
    shutil.rmtree(mine)
    model(mine, seed=1)
    with pytest.raises(InputError, match="which has changed since"):
        resuming.resume_from(config(tmp_path, model={"path": str(mine)}))


def test_another_model_of_the_critic_is_refused_and_the_policys_own_needs_no_name(tmp_path):
    mine = {"path": str(model(tmp_path / "mine"))}
    other = {"path": str(model(tmp_path / "other", seed=1))}
    checkpoint(tmp_path, 4, model=mine["path"], critic=other["path"])
    assert resuming.resume_from(config(tmp_path, model=mine, critic=other))
    for critic in ({}, mine):
        with pytest.raises(InputError, match=rf"critic\.path = .*mine', not '{other['path']}'"):
            resuming.resume_from(config(tmp_path, model=mine, critic=critic))
    checkpoint(tmp_path, 8, model=mine["path"])
    assert resuming.resume_from(config(tmp_path, model=mine, critic=mine))
    with pytest.raises(InputError, match=r"critic\.path = .*other', not .*mine'"):
        resuming.resume_from(config(tmp_path, model=mine, critic=other))


@pytest.mark.parametrize("had", [True, False])
def test_a_critic_that_was_not_there_or_is_no_longer_asked_for_is_refused(tmp_path, had):
    checkpoint(tmp_path, 4, shape={"critic": had})
    objectives = {True: {"name": "tests.support.valued"}, False: {"name": "oapl"}}
    assert resuming.resume_from(config(tmp_path, objective=objectives[had]))
    words = "asks for no critic, but .* with one" if had else "asks for a critic, but .* without"
    with pytest.raises(InputError, match=rf"objective\.name = .*: {words}"):
        resuming.resume_from(config(tmp_path, objective=objectives[not had]))


def test_the_same_model_in_another_place_or_other_files_goes_on(tmp_path):
    checkpoint(tmp_path, 4, model=model(tmp_path / "mine"))
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    model(tmp_path / "sharded", files=3)
    (tmp_path / "mine" / "README.md").write_text("other words")
    os.utime(tmp_path / "mine" / "model-0.safetensors")
    for path in ("mine", "link", "sharded"):
        assert resuming.resume_from(config(tmp_path, model={"path": str(tmp_path / path)}))


def test_of_a_hubs_model_the_name_counts_and_a_copy_of_it_goes_on(tmp_path):
    checkpoint(tmp_path, 4, model="org/small")
    assert resuming.resume_from(config(tmp_path, model={"path": "org/small"}))
    assert resuming.resume_from(config(tmp_path, model={"path": str(model(tmp_path / "copy"))}))
    with pytest.raises(InputError, match="not 'org/small'"):
        resuming.resume_from(config(tmp_path, model={"path": "org/large"}))


def test_a_checkpoint_of_an_earlier_build_names_no_model_and_is_not_refused(tmp_path):
    checkpoint(tmp_path, 4)
    assert resuming.resume_from(config(tmp_path, model={"path": str(model(tmp_path / "any"))}))


@pytest.mark.parametrize(("held", "size", "fits"), [([], 4, True), ([8], 8, True), ([8], 4, False)])
def test_groups_of_another_size_that_are_still_to_be_trained_on_are_refused(
    tmp_path, held, size, fits
):
    part = snapshots.begin(tmp_path / "run" / "checkpoints", 4)
    contents.write_state(part, {"step": 4, "group_sizes": held})
    found = snapshots.commit(part, 4)
    asked = config(tmp_path, rollout={"group_size": size})
    if fits:
        assert resuming.resume_from(asked) == found
        return
    with pytest.raises(
        InputError, match=rf"^rollout\.group_size = 4, but {found} holds groups of 8"
    ):
        resuming.resume_from(asked)


def test_the_sizes_of_groups_in_replay_are_noted_wherever_they_lie():
    made = [CreditedGroup(scored=make_group([3] * size), credit=None) for size in (4, 2)]
    assert contents.group_sizes({"buffer": made[:1], "ahead": [], "history": made}) == [2, 4]
    assert contents.group_sizes({"cursor": 7}) == []

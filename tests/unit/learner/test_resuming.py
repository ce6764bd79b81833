"""Which checkpoint a run goes on from, asked before anything is started."""

import pytest

from learner.checkpoints import contents, resuming, snapshots
from oapl.config import RunConfig
from oapl.errors import CheckpointError, InputError


def config(folder, resume="auto"):
    return RunConfig(run={"name": "run", "dir": str(folder)}, checkpoint={"resume": resume})


def checkpoint(folder, step):
    part = snapshots.begin(folder / "run" / "checkpoints", step)
    contents.write_state(part, {"step": step})
    return snapshots.commit(part, step)


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

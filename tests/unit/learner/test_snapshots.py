"""Checkpoint folders: a killed save leaves the last good one, damage is named."""

import pytest

from learner.checkpoints import snapshots
from oapl.errors import CheckpointError


def save(folder, step, text="state"):
    part = snapshots.begin(folder, step)
    (part / "trainer").mkdir()
    (part / "trainer" / "weights.bin").write_text(text)
    return snapshots.commit(part, step)


def test_the_latest_checkpoint_is_the_one_of_the_most_steps(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step)
    assert snapshots.latest(tmp_path).name == "step-100"
    assert snapshots.latest(tmp_path / "nothing") is None


def test_a_save_that_was_killed_half_way_leaves_the_last_good_one(tmp_path):
    good = save(tmp_path, 10)
    part = snapshots.begin(tmp_path, 20)
    (part / "weights.bin").write_text("half")
    assert snapshots.latest(tmp_path) == good
    snapshots.verify(good)
    snapshots.prune(tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


def test_a_flipped_byte_is_named(tmp_path):
    path = save(tmp_path, 10)
    (path / "trainer" / "weights.bin").write_text("stute")
    with pytest.raises(CheckpointError, match=r"trainer/weights.bin is damaged"):
        snapshots.verify(path)


def test_a_missing_file_is_named(tmp_path):
    path = save(tmp_path, 10)
    (path / "trainer" / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"trainer/weights.bin is missing"):
        snapshots.verify(path)


def test_pruning_keeps_the_newest(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    snapshots.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-20", "step-30"]


def test_a_run_that_comes_back_to_a_step_replaces_its_checkpoint(tmp_path):
    save(tmp_path, 10, "old")
    path = save(tmp_path, 10, "new")
    assert (path / "trainer" / "weights.bin").read_text() == "new"
    snapshots.verify(path)


def test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    snapshots.set_aside(tmp_path, 10)
    assert snapshots.latest(tmp_path).name == "step-10"
    save(tmp_path, 15)
    snapshots.prune(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["later-20", "later-30", "step-15"]
    save(tmp_path, 20, "again")
    snapshots.set_aside(tmp_path, 15)
    assert (tmp_path / "later-20" / "trainer" / "weights.bin").read_text() == "again"

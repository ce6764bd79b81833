"""Checkpoint folders: a killed save leaves the last good one."""

import os

import pytest

from learner.checkpoints import digests, resuming, snapshots


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
    resuming.verify(good)
    snapshots.prune(tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


def test_a_new_save_removes_what_a_killed_one_left_on_the_disk(tmp_path):
    (snapshots.begin(tmp_path, 10) / "weights.bin").write_text("half")
    assert save(tmp_path, 20).name == "step-20"
    assert [path.name for path in tmp_path.iterdir()] == ["step-20"]


def test_pruning_keeps_the_newest(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    snapshots.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-20", "step-30"]


def test_a_run_that_comes_back_to_a_step_replaces_its_checkpoint(tmp_path):
    save(tmp_path, 10, "old")
    path = save(tmp_path, 10, "new")
    assert (path / "trainer" / "weights.bin").read_text() == "new"
    resuming.verify(path)


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


HOUR = 3600.0


@pytest.mark.parametrize(
    ("hours", "chosen"),
    [(1, {10, 30, 50}), (2, {10, 50}), (0.25, {10, 20, 30, 40, 50}), (9, {10})],
)
def test_of_so_many_hours_one_is_chosen_the_first_among_them(hours, chosen):
    times = {10: 0.0, 20: 0.5 * HOUR, 30: 1.25 * HOUR, 40: 1.75 * HOUR, 50: 2.25 * HOUR}
    assert snapshots.milestones(times, hours) == chosen
    left = {step: at for step, at in times.items() if step in chosen}
    assert snapshots.milestones(left, hours) == chosen, "whatever is gone between them"


def test_pruning_leaves_one_for_so_many_hours_beside_the_newest(tmp_path):
    for step in range(8):
        path = save(tmp_path, step)
        os.utime(path / "digests.json", (0, step * HOUR / 2))
        snapshots.prune(tmp_path, keep=1, every_hours=1.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-0",
        "step-3",
        "step-6",
        "step-7",
    ]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_whichever_file_is_damaged_one_of_the_ranks_finds_it(tmp_path, ranks):
    names = [f"part-{number}.bin" for number in range(4)]
    for name in names:
        (tmp_path / name).write_text("whole")
    digests.write(tmp_path)
    for name in names:
        (tmp_path / name).write_text("whale")
        found = [digests.problem(tmp_path, rank, ranks) for rank in range(ranks)]
        assert [problem for problem in found if problem] == [f"{name} is damaged"]
        (tmp_path / name).write_text("whole")


def test_a_run_that_comes_back_to_a_step_never_stands_without_a_checkpoint(tmp_path, monkeypatch):
    """What takes long of it, and may be killed, is to remove the older one."""
    save(tmp_path, 10, "old")

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshots.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 10, "new")
    monkeypatch.undo()
    left = snapshots.latest(tmp_path)
    assert (left / "trainer" / "weights.bin").read_text() == "new"
    resuming.verify(left)
    save(tmp_path, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-20"]

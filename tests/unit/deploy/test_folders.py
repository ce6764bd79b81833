"""One run per folder, also where machines share it; nothing of a refused one is written."""

import asyncio
import datetime
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from deploy.run import folders, pulse
from learner.checkpoints import contents, digests
from oapl.config import RunConfig
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError, StorageError

HOLD = """
import sys, time
from pathlib import Path
from deploy.run.folders import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path, holder):
    with (
        pytest.raises(InputError, match=f"process {holder.pid} is using .*run.name"),
        folders.locked(tmp_path),
    ):
        pass


def test_a_folder_whose_owner_was_killed_is_free_at_once(tmp_path, holder):
    holder.kill()
    holder.wait()
    with folders.locked(tmp_path, patience_s=60):
        assert (tmp_path / ".lock").read_text().startswith(socket.gethostname())
    assert (tmp_path / ".lock").read_text() == ""


def test_another_machines_lock_counts_while_its_time_moves(tmp_path):
    """As on a shared folder whose `flock` reaches one machine only."""
    lock = tmp_path / ".lock"
    lock.write_text("far-away process 7\n")
    done = threading.Event()
    renewing = threading.Thread(target=folders._renew, args=(str(lock), done, 0.02))
    renewing.start()
    try:
        with (
            pytest.raises(InputError, match="far-away process 7 is using"),
            folders.locked(tmp_path, patience_s=2),
        ):
            pass
        assert lock.read_text() == "far-away process 7\n"
    finally:
        done.set()
        renewing.join()
    with folders.locked(tmp_path, patience_s=0.2):  # its time stands still: it is gone
        assert f"process {os.getpid()}" in lock.read_text()


def test_a_holder_renews_its_lock(tmp_path):
    with folders.locked(tmp_path, beat_s=0.01):
        assert folders._is_renewed(tmp_path / ".lock", "me", 2)


def test_a_run_in_a_folder_in_use_writes_nothing_there(tmp_path, holder, monkeypatch):
    from deploy.run import program
    from oapl.config import RunConfig

    monkeypatch.setattr(program, "preflight", lambda config: type("R", (), {"notes": ()}))
    before = sorted(os.listdir(tmp_path))
    config = RunConfig(run={"dir": str(tmp_path.parent), "name": tmp_path.name})
    with pytest.raises(InputError, match="is using"):
        program.train(config)
    assert sorted(os.listdir(tmp_path)) == before


# --- what a run goes on with


def config(folder, **sections) -> RunConfig:
    return RunConfig(run={"dir": str(folder.parent), "name": folder.name}, **sections)


def write(folder, **sections) -> None:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config(folder, **sections)))


def today() -> str:
    return datetime.date.today().isoformat()


def test_a_new_run_has_the_date_of_its_first_day_and_keeps_it(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    assert folders.prepare(config(folder)).data.date == today()
    write(tmp_path / "old", data={"date": "2026-01-31"})
    assert folders.prepare(config(tmp_path / "old")).data.date == "2026-01-31"
    assert load_config(tmp_path / "old" / "config.toml").data.date == "2026-01-31"
    chosen = folders.prepare(config(tmp_path / "old", data={"date": "2026-02-01"}))
    assert chosen.data.date == "2026-02-01", "what the user wrote comes first"


def test_a_run_that_goes_on_from_another_s_checkpoint_has_that_one_s_date(tmp_path):
    write(tmp_path / "old", data={"date": "2026-01-31"})
    checkpoint = tmp_path / "old" / "checkpoints" / "step-3"
    checkpoint.mkdir(parents=True)
    contents.write_state(checkpoint, {"step": 3})
    (checkpoint / digests.FILE).write_text("{}")
    folder = tmp_path / "new"
    folder.mkdir()
    made = folders.prepare(config(folder, checkpoint={"resume": str(checkpoint)}))
    assert made.data.date == "2026-01-31"


def test_a_run_folder_of_an_earlier_oapl_has_no_date(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.toml").write_text("[data]\nepochs = 1\n")
    assert folders.prepare(config(folder)).data.date == today()


def test_an_evaluation_has_the_date_of_the_run_in_its_folder(tmp_path):
    write(tmp_path / "run", data={"date": "2026-01-31"})
    assert folders.prepare_evaluation(config(tmp_path / "run")).data.date == "2026-01-31"
    assert (tmp_path / "run" / "eval.toml").is_file()


@pytest.mark.parametrize("part", ["metrics.jsonl", ".lock", "checkpoints/step-3"])
@pytest.mark.parametrize("name", ["config.toml", "eval.toml"])
def test_a_run_folder_that_was_moved_is_the_run_s(tmp_path, part, name, capsys):
    old, new = tmp_path / "old" / "a", tmp_path / "new" / "b"
    write(old)
    (old / part).mkdir(parents=True)
    (old / "config.toml").rename(old / name)
    new.parent.mkdir()
    old.rename(new)
    found = folders.moved_here(load_config(new / name), new / name, ["sync.interval=3"])
    assert found.folder == new
    assert f"{new} was {old}" in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [["run.name=mine"], ["run.dir=elsewhere"]])
def test_another_folder_may_be_chosen_for_the_settings_of_a_run(tmp_path, overrides):
    old, new = tmp_path / "old", tmp_path / "new"
    write(old)
    (old / "metrics.jsonl").touch()
    old.rename(new)
    written = load_config(new / "config.toml", overrides)
    assert folders.moved_here(written, new / "config.toml", overrides) is written


def test_a_recipe_is_no_run_folder_s_and_one_that_lies_where_it_was_stays_so(tmp_path, capsys):
    write(tmp_path / "run")
    (tmp_path / "config.toml").write_text((tmp_path / "run" / "config.toml").read_text())
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    for recipe in (tmp_path / "config.toml", tmp_path / "run" / "config.toml"):
        assert folders.moved_here(load_config(recipe), recipe, []).folder == tmp_path / "run"
    assert capsys.readouterr().err == ""


async def test_a_folder_that_is_removed_and_made_again_by_a_writer_ends_the_run(
    tmp_path, monkeypatch
):
    class Ray:
        async def trouble(self):
            return None

    monkeypatch.setattr(pulse, "BEAT_S", 0.05)
    folder = tmp_path / "run"
    with folders.locked(folder):
        watching = pulse.Pulse(Ray(), print, 60.0, folder=folder)
        watching.keep()
        await asyncio.sleep(0.3)
        assert not watching.failed.done()
        shutil.rmtree(folder)
        (folder / "checkpoints").mkdir(parents=True)
        with pytest.raises(StorageError, match=r"the run folder .*run is gone"):
            await asyncio.wait_for(watching.failed, 60)
        await watching.close()

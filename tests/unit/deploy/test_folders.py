"""One run per folder, also where machines share it; nothing of a refused one is written."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from deploy.run import folders
from oapl.errors import InputError

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

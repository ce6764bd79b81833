"""A process that is stuck, stopped or gone: what is written of it, and who is sent a signal."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import stacks
from deploy.processes.base import Process

ROOT = Path(__file__).parents[3]
STUCK = """
import sys, threading
from deploy.processes import stacks
stacks.arm()
def stuck_here():
    threading.Event().wait(60)
print("ready", flush=True)
stuck_here()
"""


@pytest.fixture
def stuck(tmp_path):
    log = tmp_path / "logs" / "trainer-0.log"
    log.parent.mkdir()
    with log.open("w") as out:
        command = [sys.executable, "-c", STUCK]
        child = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
    while "ready" not in log.read_text():
        assert child.poll() is None, log.read_text()
    yield Process("trainer-0", None, child.pid)
    child.kill()
    child.wait(10)


async def _written(tmp_path, *processes):
    path = stacks.new_file(tmp_path)
    await stacks.write(path, "540 s of 600 s for a batch", processes)
    return path.read_text()


async def test_a_stuck_process_tells_where_it_stands_and_so_does_the_run_itself(tmp_path, stuck):
    text = await _written(tmp_path, stuck)
    assert text.startswith("540 s of 600 s for a batch\n")
    assert f"== trainer-0 (process {stuck.pid})" in text
    assert "in stuck_here" in text
    assert "in test_a_stuck_process_tells_where_it_stands" in text.partition("== trainer-0")[0]
    assert [path.suffix for path in (tmp_path / "stacks").iterdir()] == [".txt"]


async def test_a_stopped_process_is_named_as_that_and_not_waited_for(tmp_path, stuck, monkeypatch):
    monkeypatch.setattr(stacks, "ANSWER_S", 0.2)
    monkeypatch.setattr(stacks.shutil, "which", lambda name: None)
    os.kill(stuck.pid, signal.SIGSTOP)
    text = await _written(tmp_path, stuck)
    assert "no stack: it is stopped" in text
    assert "T (stopped)" in text
    os.kill(stuck.pid, signal.SIGCONT)


async def test_only_a_process_that_writes_our_log_is_sent_a_signal(tmp_path, stuck, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal to somebody else"))
    elsewhere = Process("worker-0.0", None, stuck.pid)
    gone = Process("replay", None, 2**22 + 1)
    text = await _written(tmp_path, elsewhere, gone)
    assert text.count("gone, or on another machine") == 2


async def test_what_a_coroutine_waits_for_is_told_from_the_outermost_inwards():
    async def inner():
        await asyncio.sleep(60)

    async def outer():
        await inner()

    task = asyncio.create_task(outer(), name="the one")
    await asyncio.sleep(0)
    text = stacks.of_tasks()
    task.cancel()
    lines = text[text.index("Task the one") :].splitlines()
    assert [line.rpartition(" in ")[2].rpartition(".")[2] for line in lines[1:4]] == [
        "outer",
        "inner",
        "sleep",
    ]


class Opaque:
    """Waits for a coroutine and does not tell for which, as Ray's own do."""

    def __init__(self, call):
        self._steps = call.__await__()

    def __await__(self):
        return self

    def __next__(self):
        return next(self._steps)


async def test_a_call_is_told_though_ray_s_coroutine_stands_around_it():
    async def take():
        await asyncio.sleep(60)

    async def outer():
        await Opaque(stacks.awaited(take()))

    task = asyncio.create_task(outer(), name="the one")
    await asyncio.sleep(0)
    text = stacks.of_tasks()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    lines = text[text.index("Task the one") :].splitlines()
    found = [line.rpartition(" in ")[2].rpartition(".")[2] for line in lines[1:5]]
    assert found == ["outer", "Opaque", "take", "sleep"]
    assert "take" not in stacks.of_tasks()


async def test_the_oldest_files_go(tmp_path):
    place = tmp_path / "stacks"
    place.mkdir()
    for day in range(10, 32):
        (place / f"2020-01-{day}T00-00-00.txt").write_text("")
    await _written(tmp_path)
    left = sorted(path.name for path in place.iterdir())
    assert len(left) == stacks.KEPT
    assert left[0] > "2020-01-12"


async def test_one_that_goes_while_it_is_asked_keeps_none_of_the_others_from_being_told(
    tmp_path, stuck, monkeypatch
):
    def gone(pid, number):
        raise ProcessLookupError("No such process")

    monkeypatch.setattr(stacks.os, "kill", gone)
    text = await _written(tmp_path, stuck, Process("replay", None, 2**22 + 1))
    assert f"== trainer-0 (process {stuck.pid}): it went meanwhile" in text
    assert "== replay (process 4194305): gone" in text

"""The run's own event loop is looked at, too; of a run that is never stuck nothing is left."""

import asyncio
import time

import pytest

from deploy.run import stalls
from deploy.run.stalls import told
from oapl.remote.waiting import within


class Written:
    """Processes of which only stacks are asked."""

    def __init__(self):
        self.whys = []

    async def write_stacks(self, path, why):
        path.parent.mkdir(exist_ok=True)
        path.write_text(why)
        self.whys.append(why)


async def test_of_a_run_that_is_never_stuck_nothing_is_left(tmp_path):
    async with told(40, tmp_path, print, Written()):
        await within(30, asyncio.sleep(0.01), "a batch")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="a run that fails"):
        await failing(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def failing(folder):
    async with told(40, folder, print, Written()):
        raise ValueError("a run that fails")


async def test_a_loop_that_stands_still_writes_where(tmp_path, monkeypatch):
    monkeypatch.setattr(stalls, "STANDSTILL_S", 0.1)
    async with told(40, tmp_path, print, Written()):
        await asyncio.sleep(0.05)
        time.sleep(0.4)  # noqa: ASYNC251 - that is what it is about
    text = (tmp_path / "stacks" / "standstill.txt").read_text()
    assert "in test_a_loop_that_stands_still_writes_where" in text


async def test_a_wait_that_is_about_to_end_is_told_and_its_stacks_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(stalls, "SHORTEST_S", 0.0)
    monkeypatch.setattr(stalls, "BEAT_S", 0.01)
    lines, processes = [], Written()
    async with told(0.1, tmp_path, lines.append, processes):
        await within(0.6, asyncio.sleep(0.58), "worker 0.0 to load version 4")
    assert lines[0].startswith("the run: 0 s for worker 0.0 to load version 4 (at most 0.6 s)")
    (file,) = (tmp_path / "stacks").iterdir()
    assert [file.read_text()] == processes.whys
    assert lines[-1].endswith(f"the stacks of all processes are in {file}")


async def test_a_disk_that_takes_nothing_ends_no_run(tmp_path):
    (tmp_path / "stacks").write_text("no folder")
    async with told(40, tmp_path, print, Written()):
        await within(30, asyncio.sleep(0.01), "a batch")
    assert [path.name for path in tmp_path.iterdir()] == ["stacks"]


async def test_what_an_attempt_has_left_stays_when_another_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(stalls, "STANDSTILL_S", 0.1)
    async with told(40, tmp_path, print, Written()):
        await asyncio.sleep(0.05)
        time.sleep(0.4)  # noqa: ASYNC251 - that is what it is about
    text = (tmp_path / "stacks" / "standstill.txt").read_text()
    async with told(40, tmp_path, print, Written()):
        await asyncio.sleep(0.05)
    assert (tmp_path / "stacks" / "standstill.txt").read_text() == text != ""


async def test_a_watch_that_fails_says_so_and_leaves_no_standstill_that_was_none(
    tmp_path, monkeypatch
):
    async def look(self):
        raise KeyError("a wait without a kind")

    monkeypatch.setattr(stalls, "STANDSTILL_S", 0.1)
    monkeypatch.setattr(stalls.Stalls, "look", look)
    lines = []
    async with told(40, tmp_path, lines.append, Written()):
        await asyncio.sleep(0.3)
    assert lines == ["waits are looked at no more (KeyError: 'a wait without a kind')"]
    assert list(tmp_path.iterdir()) == []

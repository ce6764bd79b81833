"""A wait that lasts is told before its deadline, and its stacks are written just before that."""

import asyncio

import pytest

from deploy.run import stalls
from deploy.run.stalls import Stalls
from oapl.remote.open_waits import OpenWaits

pytestmark = pytest.mark.leaping


class Watched:
    """Stalls that look every second, beside what a test does."""

    def __init__(self, tmp_path, stall_s=40.0, fails=False):
        self.waits, self.lines, self.written, self._fails = OpenWaits(), [], [], fails
        self.stalls = Stalls(stall_s, tmp_path, self.note, self.write, self.waits)
        self._beating = asyncio.create_task(self._beat())

    def note(self, line):
        self.lines.append((asyncio.get_running_loop().time(), line))

    async def write(self, path, why):
        await asyncio.sleep(2)
        if self._fails:
            raise OSError("the disk is full")
        self.written.append((path, why))

    async def _beat(self):
        while True:
            await self.stalls.look()
            await asyncio.sleep(stalls.BEAT_S)

    async def close(self):
        self._beating.cancel()
        await self.stalls.close()


async def test_a_wait_is_told_with_what_they_say_who_are_awaited_and_again_twice_as_late(tmp_path):
    watched = Watched(tmp_path)

    async def says():
        return "3 groups of version 120; worker 1 has 2 of them, last token 38 s ago"

    with watched.waits.awaiting("a batch", 600, who="learner", describe=says):
        await asyncio.sleep(170)
    assert [line for _, line in watched.lines] == [
        f"learner: {seconds} s for {await says()} (at most 600 s)" for seconds in (40, 80, 160)
    ]
    assert watched.written == []
    await watched.close()


async def test_before_its_deadline_the_stacks_are_written_once_and_the_wait_names_the_file(
    tmp_path,
):
    watched = Watched(tmp_path)
    with watched.waits.awaiting("worker 0.0 to load version 4", 100) as wait:
        await asyncio.sleep(89)
        assert wait.stacks is None
        await asyncio.sleep(10)
    ((path, why),) = watched.written
    assert wait.stacks == str(path)
    assert path.parent == tmp_path / "stacks"
    assert why == "the run: 90 s of 100 s for worker 0.0 to load version 4"
    assert watched.lines[-1][1] == f"{why}; the stacks of all processes are in {path}"
    await watched.close()


async def test_a_short_deadline_is_told_at_its_half_and_the_shortest_not_at_all(tmp_path):
    watched = Watched(tmp_path)
    with watched.waits.awaiting("replay to answer", 30):
        await asyncio.sleep(16)
    with watched.waits.awaiting("a ping", 5):
        await asyncio.sleep(16)
    assert [line for _, line in watched.lines] == [
        "the run: 15 s for replay to answer (at most 30 s)"
    ]
    await watched.close()


async def test_what_usually_takes_long_is_told_when_it_takes_much_longer(tmp_path):
    watched = Watched(tmp_path)
    for step in range(3):
        with watched.waits.awaiting(f"step {step}", 600):
            await asyncio.sleep(50)
    assert [at for at, _ in watched.lines] == [40]
    began = asyncio.get_running_loop().time()
    with watched.waits.awaiting("step 3", 600):
        await asyncio.sleep(160)
    assert [at - began for at, _ in watched.lines[1:]] == [pytest.approx(150, abs=2)]
    await watched.close()


async def test_a_wait_of_which_something_comes_is_not_stuck(tmp_path):
    watched = Watched(tmp_path)
    with watched.waits.awaiting("2 workers to answer 90 prompts", 3600) as wait:
        for _ in range(20):
            await asyncio.sleep(30)
            wait.heard()
        assert watched.lines == []
        await asyncio.sleep(45)
    assert len(watched.lines) == 1
    await watched.close()


async def test_who_cannot_be_asked_is_no_reason_to_be_silent(tmp_path):
    watched = Watched(tmp_path)

    async def says():
        await asyncio.sleep(3600)

    with watched.waits.awaiting("a batch", 600, who="learner", describe=says):
        await asyncio.sleep(60)
    (line,) = [line for _, line in watched.lines]
    assert line.startswith("learner: 45 s for a batch, and nobody says why (TimeoutError)")
    await watched.close()


async def test_stacks_that_cannot_be_written_are_told_once_and_end_nothing(tmp_path):
    watched = Watched(tmp_path, fails=True)
    with watched.waits.awaiting("a batch", 100):
        await asyncio.sleep(99)
    assert [line for _, line in watched.lines if "cannot be written (the disk is full)" in line]
    assert len(watched.lines) == 3, "at 40 s, at 80 s, and that"
    await watched.close()


async def test_waits_that_end_together_share_a_file_which_is_written_to_its_end(tmp_path):
    watched = Watched(tmp_path)

    async def wait_for(what):
        with watched.waits.awaiting(what, 100) as wait:
            await asyncio.sleep(91)
        return wait.stacks

    files = await asyncio.gather(wait_for("a batch"), wait_for("a load"))
    assert watched.written == []
    await watched.close()
    ((path, _),) = watched.written
    assert files == [str(path)] * 2

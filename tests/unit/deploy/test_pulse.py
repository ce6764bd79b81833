"""Who does not answer is named, replaced, or the end of the run, whatever the learner waits for."""

import asyncio

import pytest

from deploy.processes.launch import Process
from deploy.run.pulse import BEAT_S, SILENCE_S, Pulse
from oapl.errors import DeadlineError, NodeError

pytestmark = pytest.mark.leaping

START_S = 100


class Stoppable:
    """Processes that answer until they are stopped; a replaced one takes its time to start."""

    def __init__(self, restart_s=0.0):
        self.stopped, self.replaced, self.dead, self.ended = set(), [], set(), None
        self._restart_s = restart_s

    async def ping(self, process):
        if process.name in self.dead:
            raise RuntimeError("the actor is dead")
        while process.name in self.stopped:
            await asyncio.sleep(0.1)

    async def replace(self, process):
        self.replaced.append((process.name, asyncio.get_running_loop().time()))
        asyncio.get_running_loop().call_later(self._restart_s, self.stopped.discard, process.name)

    async def trouble(self, patience_s=0.0):
        return self.ended


REPLAY, *REWARDS = (Process(name, None, 7) for name in ("replay", "reward-0", "reward-1"))


@pytest.fixture
async def kept():
    processes, notes = Stoppable(), []
    pulse = Pulse(processes, notes.append, START_S)
    pulse.keep(REPLAY, REWARDS)
    await asyncio.sleep(1)
    yield processes, pulse, notes
    await pulse.close()


async def test_while_all_answer_nothing_is_said(kept):
    processes, pulse, notes = kept
    await asyncio.sleep(3600)
    assert (processes.replaced, notes, pulse.failed.done()) == ([], [], False)
    assert await pulse.silent() == []


async def test_a_stopped_reward_server_is_replaced_once_and_named_meanwhile(kept):
    processes, pulse, notes = kept
    processes.stopped.add("reward-1")
    assert await pulse.silent() == ["reward-1"]
    await asyncio.sleep(2 * (SILENCE_S + BEAT_S))
    assert notes == ["reward-1 has not answered for 30 s; replacing it"]
    ((name, at),) = processes.replaced
    assert name == "reward-1"
    assert pulse.replaced_at == at <= SILENCE_S + 2 * BEAT_S
    assert await pulse.silent() == []
    assert not pulse.failed.done()


async def test_a_replaced_one_has_as_long_to_start_as_any_process():
    processes, notes = Stoppable(restart_s=START_S - 10), []
    pulse = Pulse(processes, notes.append, START_S)
    pulse.keep(REPLAY, REWARDS)
    processes.stopped.add("reward-0")
    await asyncio.sleep(4 * START_S)
    assert len(processes.replaced) == 1
    await pulse.close()


async def test_a_stopped_replay_ends_the_run_in_its_own_name(kept):
    processes, pulse, _ = kept
    processes.stopped.add("replay")
    with pytest.raises(DeadlineError, match=r"^replay \(process 7\).* has not answered for 30 s"):
        await asyncio.wait_for(pulse.failed, SILENCE_S + 2 * BEAT_S)


async def test_what_the_processes_run_on_ends_the_run_in_its_own_name(kept):
    processes, pulse, _ = kept
    processes.ended = NodeError("Ray's raylet has ended")
    with pytest.raises(NodeError, match="raylet"):
        await asyncio.wait_for(pulse.failed, 2 * BEAT_S)


async def test_a_dead_process_is_no_silent_one_and_told_once(kept):
    """Whoever waits for it has heard; Ray starts a reward server again."""
    processes, pulse, notes = kept
    processes.dead.add("reward-0")
    await asyncio.sleep(600)
    told = ["reward-0 is down (RuntimeError); Ray starts it again"]
    assert (processes.replaced, notes, await pulse.silent()) == ([], told, [])
    processes.dead.clear()
    await asyncio.sleep(600)
    assert notes == told
    processes.dead.add("reward-0")
    await asyncio.sleep(600)
    assert notes == told * 2, "another death is told again"


async def test_one_that_died_has_as_long_to_start_as_any_process(kept):
    """Calls of an actor fail while Ray has not started it again, and wait while it is made."""
    processes, _, notes = kept
    processes.dead.add("reward-0")
    await asyncio.sleep(2 * BEAT_S)
    processes.dead.clear()
    processes.stopped.add("reward-0")
    await asyncio.sleep(START_S - 4 * BEAT_S)
    processes.stopped.clear()
    await asyncio.sleep(600)
    assert processes.replaced == []
    assert notes == ["reward-0 is down (RuntimeError); Ray starts it again"]


async def test_one_that_is_replaced_is_told_once_however_slowly_it_dies_and_starts():
    class Slow(Stoppable):
        async def replace(self, process):
            self.replaced.append((process.name, asyncio.get_running_loop().time()))
            self.stopped.clear()
            self.dead.add(process.name)
            later = asyncio.get_running_loop().call_later
            later(2 * BEAT_S, self.dead.clear)
            later(2 * BEAT_S, self.stopped.add, process.name)
            later(START_S - 4 * BEAT_S, self.stopped.clear)

    processes, notes = Slow(), []
    pulse = Pulse(processes, notes.append, START_S)
    pulse.keep(REPLAY, REWARDS)
    processes.stopped.add("reward-1")
    await asyncio.sleep(6 * START_S)
    assert notes == ["reward-1 has not answered for 30 s; replacing it"]
    assert len(processes.replaced) == 1
    await pulse.close()

"""Who does not answer is named, replaced, or the end of the run, whatever the learner waits for."""

import asyncio

import pytest

from deploy.processes.base import Process
from deploy.run.pulse import BEAT_S, SILENCE_S, Pulse
from oapl.config.restarts import RewardServerRestarts
from oapl.errors import NodeError, OaplError, ReplayError

pytestmark = pytest.mark.leaping

START_S = 100


class Stoppable:
    """Processes that answer until they are stopped; a replaced one takes its time to start."""

    def __init__(self, restart_s=0.0):
        self.stopped, self.replaced, self.dead, self.ended = set(), [], set(), None
        self.error, self.pids = RuntimeError, {}
        self._restart_s = restart_s

    async def ping(self, process):
        if process.name in self.dead:
            raise self.error("the actor is dead")
        while process.name in self.stopped:
            await asyncio.sleep(0.1)
        return self.pids.get(process.name, process.pid)

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


@pytest.mark.parametrize(
    ("state", "why"),
    [("stopped", "has not answered for 30 s"), ("dead", r"has ended \(RuntimeError\); see logs/")],
)
async def test_a_lost_replay_ends_the_attempt_in_its_own_name(kept, state, why):
    processes, pulse, _ = kept
    getattr(processes, state).add("replay")
    with pytest.raises(ReplayError, match=rf"^replay \(process 7\), which holds .*, {why}"):
        await asyncio.wait_for(pulse.failed, SILENCE_S + 2 * BEAT_S)


async def test_a_replay_that_ray_cannot_reach_for_a_while_is_not_lost(kept):
    class ActorUnavailableError(Exception):
        pass

    processes, pulse, _ = kept
    processes.error = ActorUnavailableError
    processes.dead.add("replay")
    await asyncio.sleep(600)
    processes.dead.clear()
    assert not pulse.failed.done()


async def test_a_reward_server_that_dies_too_often_ends_the_run_and_each_start_is_counted():
    processes, notes = Stoppable(), []
    pulse = Pulse(processes, notes.append, START_S)
    pulse.keep(REPLAY, REWARDS, RewardServerRestarts(max_restarts=2, window_s=600.0))
    for _ in range(2):
        processes.dead.add("reward-0")
        await asyncio.sleep(2 * BEAT_S)
        processes.dead.clear()
        await asyncio.sleep(2 * BEAT_S)
    assert (pulse.restarts(), pulse.restarts(), pulse.failed.done()) == (2.0, 0.0, False)
    processes.stopped.add("reward-0")
    key = r"restarts\.reward_server\.max_restarts"
    with pytest.raises(OaplError, match=rf"^reward-0 .* more than 2 times within 600 s \({key}\)"):
        await asyncio.wait_for(pulse.failed, SILENCE_S + 3 * BEAT_S)
    await pulse.close()


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


async def test_a_death_between_two_questions_is_told_and_counted_once(kept):
    """Ray was quick: the server answers, but from another process."""
    processes, pulse, notes = kept
    processes.pids["reward-1"] = 8
    await asyncio.sleep(600)
    assert notes == ["reward-1 is down (it had ended); Ray has started it again"]
    assert pulse.restarts() == 1.0
    processes.dead.add("reward-1")
    await asyncio.sleep(2 * BEAT_S)
    processes.pids["reward-1"] = 9
    processes.dead.clear()
    await asyncio.sleep(600)
    assert (len(notes), pulse.restarts()) == (2, 1.0)


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


async def test_a_server_that_cannot_be_replaced_ends_the_run_instead_of_being_forgotten(kept):
    async def refuse(process):
        raise ValueError("no actor of that name")

    processes, pulse, _ = kept
    processes.replace = refuse
    processes.stopped.add("reward-0")
    with pytest.raises(ValueError, match="no actor of that name"):
        await asyncio.wait_for(pulse.failed, SILENCE_S + 2 * BEAT_S)

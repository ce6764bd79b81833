"""The parts of a run start beside one another; a verifier that does not work ends their starts."""

import asyncio
from pathlib import Path

import pytest

from actors.data import fingerprints
from deploy.processes.base import Process
from deploy.run import parts
from deploy.run.attempts import Attempts
from oapl.config import RunConfig
from oapl.errors import RankError, VerifierError
from oapl.records import Judgement, Verdict
from oapl.remote.waiting import both
from tests.support.judging import prompt
from tests.support.storing import HEADER

pytestmark = pytest.mark.timeout(60)


class Server:
    """A reward server whose verdicts come when `may_judge` is set."""

    def __init__(self, kind="accepted"):
        self.asked, self.may_judge, self.kind = asyncio.Event(), asyncio.Event(), kind

    async def score(self, tasks):
        self.asked.set()
        await self.may_judge.wait()
        verdict = Verdict(kind=self.kind, reward=1.0, detail="why")
        return [Judgement(reward=1.0, verdicts={"math": verdict}) for _ in tasks]

    async def stats(self):
        return {}

    async def troubles(self, timeout_s):
        await asyncio.sleep(timeout_s)
        return []


class Started:
    """Processes whose ranks are there when `are_there` is set."""

    def __init__(self, server):
        self.server, self.are_there = server, asyncio.Event()
        self.ranks = "not begun"

    async def start(self, role, name, **_):
        return Process(name, self.server if role == "reward" else None, 7)

    async def start_ranks(self):
        self.ranks = "begun"
        try:
            await self.are_there.wait()
        except asyncio.CancelledError:
            self.ranks = "ended"
            raise
        return [Process("trainer-0", None, 8)]

    async def ping(self, process):
        pass

    async def trouble(self, patience_s=0.0):
        return None


class NoWorkers:
    """Engines that are started, and closed."""

    made = ()

    def __init__(self, config, **options):
        self.acts, self.options = [], options
        NoWorkers.made = (*NoWorkers.made, self)

    def start(self):
        self.acts.append("start")

    async def start_idle(self):
        self.acts.append("start")
        await asyncio.sleep(0)

    async def close(self):
        self.acts.append("close")


class Silent:
    def message(self, text):
        pass

    def rollouts(self, rows):
        pass


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """A start under way, and its processes."""
    monkeypatch.setattr(NoWorkers, "made", ())
    monkeypatch.setattr(parts, "Workers", NoWorkers)
    monkeypatch.setattr(parts, "LearnerGroup", lambda *_: None)
    monkeypatch.setattr(parts, "load_tokenizer", lambda *_: None)
    monkeypatch.setattr(fingerprints, "header_of", lambda *_, **__: HEADER)
    config = RunConfig(run={"dir": str(tmp_path)})
    trials = [prompt({"answer": "1"})]
    attempts = Attempts({}, None, trials=trials)

    def begin(kind="accepted", *, training=True, resume=None):
        attempts.resume = resume
        processes = Started(Server(kind))
        act = (
            parts.start(config, processes, Silent(), attempts)
            if training
            else parts.start_idle(config, processes, Silent(), trials)
        )
        return processes, asyncio.create_task(act)

    return begin


@pytest.mark.parametrize("last", ["ranks", "trial"])
async def test_verifiers_are_tried_beside_the_start_of_the_ranks_and_both_are_awaited(begun, last):
    processes, starting = begun()
    await processes.server.asked.wait()
    assert processes.ranks == "begun"
    assert [workers.acts for workers in NoWorkers.made] == [["start"]]
    first, second = processes.are_there, processes.server.may_judge
    if last == "ranks":
        first, second = second, first
    first.set()
    await asyncio.sleep(0.05)
    assert not starting.done()
    second.set()
    made = await starting
    assert made.rewards._counts_failures
    await made.pulse.close()
    await made.rewards.close()


async def test_a_verifier_that_does_not_work_ends_the_other_starts(begun):
    processes, starting = begun("error")
    processes.server.may_judge.set()
    with pytest.raises(VerifierError, match="verifier math gave no verdict"):
        await starting
    assert processes.ranks == "ended"
    assert NoWorkers.made[0].acts == ["start", "close"]
    assert [task for task in asyncio.all_tasks() if "listen" in repr(task)] == []


async def test_an_evaluation_tries_them_beside_the_start_of_its_engines(begun):
    processes, starting = begun(training=False)
    await processes.server.asked.wait()
    assert [workers.acts for workers in NoWorkers.made] == [["start"]]
    assert not starting.done()
    processes.server.may_judge.set()
    _, rewards, pulse = await starting
    await pulse.close()
    await rewards.close()


@pytest.mark.parametrize(("resume", "step"), [(None, 0), (Path("checkpoints/step-40"), 40)])
async def test_engines_of_a_run_that_goes_on_draw_by_seeds_of_its_step(begun, resume, step):
    processes, starting = begun(resume=resume)
    await processes.server.asked.wait()
    assert [workers.options["step"] for workers in NoWorkers.made] == [step]
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_of_two_that_are_awaited_together_the_failure_of_one_ends_the_other():
    ended = []

    async def act():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async def fail():
        await asyncio.sleep(0)
        raise RankError("no")

    for pair in ((act(), fail()), (fail(), act())):
        with pytest.raises(RankError, match="no"):
            await both(*pair)
    assert ended == [1, 1]
    assert await both(asyncio.sleep(0, "a"), asyncio.sleep(0, "b")) == ("a", "b")
    waiting = asyncio.create_task(both(act(), act()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [1] * 4

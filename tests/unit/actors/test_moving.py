"""A period's last rollouts moved from one worker to another: real workers, replay and `learn`."""

import asyncio

import numpy as np
import pytest

from actors.scoring import BatchedScorer
from actors.worker import RolloutWorker
from oapl import batching, loops
from oapl.config import RunConfig
from oapl.errors import EngineError
from oapl.loops import learn
from oapl.records import MiniBatch, ProbeReport, Rollout, WorkerId
from oapl.remote import batched_calls
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from tests.overlap.model import GROUPS_PER_STEP, Setting, simulate
from tests.support.fakes import FakeServer, publication
from tests.support.sleepers import CountingSource, SleepingEngine, YesScorer, keep

pytestmark = pytest.mark.leaping

L, STEPS, G = 3, 12, 2
TICK_S = 0.05
CONFIG = {
    "rollout": {"group_size": G, "max_groups_in_flight": 2, "num_engines": 3},
    "sync": {"interval": L, "max_lead": L, "stragglers": "move", "timeout_s": 60.0},
    "run": {"max_steps": STEPS},
    "learner": {"batch_size": 2 * G},
}


def length_of(prompt) -> int:
    """Of a period's six draws two are long, with two workers at first."""
    return 60 if int(prompt.id.removeprefix("p")) % 6 in (4, 0) else 4


class Typist:
    """Writes the numbers from 0 on, one each tick; its log-probs tell under which version."""

    def __init__(self):
        self.version, self.taken_over, self.cut = -1, [], []
        self.fault, self._cuts = None, set()

    async def generate(self, prompt, sampling, begun=None):
        version, ids, logprobs = self.version, [], []
        if begun is not None:
            assert begun.finish_reason == "abort"
            assert begun.first_version == begun.last_version == version
            ids, logprobs = begun.token_ids.tolist(), begun.inference_logprobs.tolist()
            self.taken_over.append((prompt.id, len(ids)))
        cut = asyncio.get_running_loop().create_future()
        self._cuts.add(cut)
        try:
            while len(ids) < length_of(prompt) and not cut.done():
                await asyncio.wait([cut], timeout=TICK_S)
                if self.fault:
                    raise self.fault
                if not cut.done():
                    ids.append(len(ids))
                    logprobs.append(-float(version))
        finally:
            self._cuts.discard(cut)
        if cut.done():
            self.cut.append((prompt.id, len(ids)))
        return Rollout(
            token_ids=np.array(ids, np.int32),
            inference_logprobs=np.array(logprobs, np.float32),
            finish_reason="abort" if cut.done() else "stop",
            text="x",
            first_version=version,
            last_version=version,
        )

    async def load(self, weights):
        if self.fault:
            raise self.fault
        for cut in self._cuts:
            cut.set_result(None)
        while self._cuts:
            await asyncio.sleep(0)
        self.version = weights.version
        return ProbeReport(version=weights.version, ratio=1.0, max_difference=0.0, num_tokens=1)

    async def rebuild(self):
        self.fault, self.version = None, -1

    def stats(self):
        return {}

    async def ping(self):
        pass

    def close(self):
        pass


class Learner:
    """Makes its steps of what it takes; what it publishes reaches each worker by itself."""

    def __init__(self, workers, late_s=0.0):
        self.step, self.begin, self.trained, self.loads = 0, -1, [], []
        self._workers, self._late_s = workers, late_s

    async def checkpoint_if_due(self): ...
    async def evaluate_if_due(self): ...
    async def report(self): ...

    async def publish(self, begin):
        self.begin = begin
        weights = publication(self.step)
        loads = [asyncio.create_task(self._load(worker, weights)) for worker in self._workers]
        self.loads += loads
        if begin == self.step:
            await asyncio.wait(loads, return_when=asyncio.FIRST_COMPLETED)

    async def _load(self, worker, weights):
        await asyncio.sleep(self._late_s if weights.version else 0.0)
        await worker.load(weights)

    async def prepare(self, groups):
        self.trained += [(self.step, group.scored.group) for group in groups]
        return [MiniBatch(groups=part) for part in batching.divide(groups, 2)]

    async def update(self, part):
        await asyncio.sleep(TICK_S)
        self.step += 1
        return True


class Run:
    """Three workers, a learner, and what came of it."""

    def __init__(self, late_s=0.0):
        self.config = RunConfig(**CONFIG)
        self.fates = []
        needs = PeriodNeeds.of(self.config, None)
        self.replay = ReplayBuffer(CountingSource(), keep, needs, self.fates.append)
        self.engines = [Typist() for _ in range(3)]
        self.workers = [self.worker(index) for index in range(3)]
        self.learner = Learner(self.workers, late_s)
        self.runs = {}

    def worker(self, index, incarnation=0):
        return RolloutWorker(
            self.config,
            worker=WorkerId(index=index, incarnation=incarnation),
            engine=self.engines[index],
            scorer=BatchedScorer([FakeServer()], limit_s=5.0, restart_s=0.01),
            replay=self.replay,
        )

    async def whole(self, beside=None):
        self.runs = {one: asyncio.create_task(one.run()) for one in self.workers}
        learning = asyncio.create_task(
            learn(
                self.learner,
                replay=self.replay,
                groups_per_step=2,
                interval=L,
                max_steps=STEPS,
                timeout_s=60.0,
                stop=asyncio.Event(),
                max_lead=L,
                moves=True,
            )
        )
        if beside is not None:
            await asyncio.wait_for(beside(self), 120)
        await asyncio.wait_for(learning, 120)
        for one in self.workers:
            await one.stop()
        await asyncio.gather(*self.runs.values(), *self.learner.loads, return_exceptions=True)
        await self.replay.finish()
        counts, stats = await self.replay.counts(), await self.replay.stats()
        assert len({fate.id for fate in self.fates}) == len(self.fates) == counts["drawn"]
        assert sum(fate.kind == "trained" for fate in self.fates) == 2 * STEPS
        return stats

    async def behind(self):
        """The worker that stays behind, as soon as it has taken something over."""
        while True:
            for worker, engine in zip(self.workers, self.engines, strict=True):
                if engine.taken_over and engine._cuts:
                    return worker, engine
            await asyncio.sleep(TICK_S / 2)

    def check(self):
        """Every rollout is whole, of one version, and says what its prompt has it say."""
        for step, group in self.learner.trained:
            for rollout in group.rollouts:
                assert rollout.first_version == rollout.last_version == group.version
                assert rollout.token_ids.tolist() == list(range(length_of(group.prompt)))
                assert set(rollout.inference_logprobs.tolist()) == {-float(group.version)}
            assert 0 <= step - group.version <= 2 * L - 1


class Waiting(Learner):
    """Each step takes 1; looks at the clock and the engines when the first period has ended."""

    def __init__(self, workers, engines, interval, steps):
        super().__init__(workers)
        self.stop, self._engines, self._marks = asyncio.Event(), engines, (interval, steps)
        self._seen = []

    async def prepare(self, groups):
        return [MiniBatch(groups=tuple(groups))]

    async def update(self, part):
        await asyncio.sleep(1.0)
        self.step += 1
        if self.step in self._marks:
            held = sum(engine.stats()["engine/slot_s"] for engine in self._engines)
            self._seen.append((asyncio.get_running_loop().time(), held))
        if self.step == self._marks[1]:
            self.stop.set()
        return True

    def idle(self, slots):
        (since, _), (until, held) = self._seen
        steps = self._marks[1] - self._marks[0]
        return 1 - steps / (until - since), 1 - held / (slots * (until - since))


async def idle_of_waiting_actors(setting, steps):
    """Idle shares of learner and engines, without the first period, by the loop's clock."""
    interval, engines, slots = setting.interval, setting.engines, setting.slots // setting.engines
    config = RunConfig(
        rollout={"group_size": 1, "max_groups_in_flight": slots, "num_engines": engines},
        sync={
            "interval": interval,
            "max_lead": setting.max_lead,
            "stragglers": "move" if setting.moves else "wait",
        },
        run={"max_steps": steps + 5 * interval},
        learner={"batch_size": GROUPS_PER_STEP},
    )
    replay = ReplayBuffer(CountingSource(), keep, PeriodNeeds.of(config, None))
    made = [
        SleepingEngine(index, step_s=1.0, mean=setting.mean, slots=slots, tokens_per_s=100.0)
        for index in range(engines)
    ]
    workers = [
        RolloutWorker(
            config,
            worker=WorkerId(index=index),
            engine=engine,
            scorer=YesScorer(),
            replay=replay,
        )
        for index, engine in enumerate(made)
    ]
    runs = [asyncio.create_task(one.run()) for one in workers]
    learner = Waiting(workers, made, interval, steps)
    await learn(
        learner,
        replay=replay,
        groups_per_step=GROUPS_PER_STEP,
        interval=interval,
        max_steps=config.run.max_steps,
        timeout_s=config.sync.timeout_s,
        stop=learner.stop,
        max_lead=setting.max_lead,
        moves=setting.moves,
    )
    for run in (*runs, *learner.loads):
        run.cancel()
    await asyncio.gather(*runs, *learner.loads, return_exceptions=True)
    return learner.idle(setting.slots)


@pytest.mark.parametrize("moves", [False, True])
async def test_idle_shares_of_waiting_actors_are_those_of_the_simulation(moves):
    """Real workers, replay and loops by a clock that leaps, within 3 points of either side: of the
    learner's time a third waits for the ends of periods, and a tenth where they are moved."""
    setting = Setting(mean=5, interval=20, max_lead=20, engines=4, moves=moves)
    expected = simulate(setting, 100)
    found = await idle_of_waiting_actors(setting, 100)
    assert found == pytest.approx((expected.learner, expected.engine), abs=0.03)
    assert expected.learner == pytest.approx(0.12 if moves else 0.36, abs=0.01)


@pytest.fixture(autouse=True)
def _quick_waits(monkeypatch):
    monkeypatch.setattr(loops, "POLL_S", 0.05)
    monkeypatch.setattr(batched_calls, "GATHER_S", 0.0)
    monkeypatch.setattr(batched_calls, "PACE_S", 0.0)


async def test_what_a_load_cuts_off_goes_on_elsewhere_from_its_last_token():
    run = Run()
    stats = await run.whole()
    run.check()
    cut = {place for engine in run.engines for place in engine.cut if place[1]}
    taken = [place for engine in run.engines for place in engine.taken_over]
    assert len(taken) >= G, "a group was moved"
    assert set(taken) <= cut
    assert stats["replay/moves"] >= 2
    assert stats["replay/moved_groups"] * G >= len(taken)
    assert stats["replay/wasted_tokens"] == stats.get("replay/filled_groups", 0) == 0
    by_period = {}
    for step, group in run.learner.trained:
        by_period.setdefault(step // L, set()).add(group.version)
    assert all(len(versions) == 1 for versions in by_period.values()), "one version per buffer"
    assert max(step - group.version for step, group in run.learner.trained) > L - 1, "it led"


async def test_when_the_one_behind_dies_the_period_goes_on_with_the_next_version():
    async def kill(run):
        worker, engine = await run.behind()
        engine.fault = EngineError("gone")  # nothing comes of it any more
        run.runs[worker].cancel()
        await run.replay.release(worker._id)

    run = Run()
    stats = await run.whole(kill)
    run.check()
    assert stats["replay/deaths"] >= 1
    assert stats["replay/filled_groups"] >= 1


async def test_when_the_engine_behind_fails_what_it_had_is_drawn_again():
    async def fault(run):
        _, engine = await run.behind()
        engine.fault = EngineError("a kernel broke")

    run = Run()
    stats = await run.whole(fault)
    run.check()
    assert stats["replay/returned/engine_failed"] >= 1


async def test_when_one_that_moves_dies_before_it_hands_over_its_draws_are_made_again():
    async def kill(run):
        while not (await run.replay.stats()).get("replay/moves"):
            await asyncio.sleep(TICK_S / 2)
        holders = run.replay._ledger.in_flight_by_worker()
        for worker in run.workers:
            if worker._id in holders and not run.replay._ledger.stays(worker._id):
                run.runs[worker].cancel()
                await run.replay.release(worker._id)
                return
        pytest.fail("nobody else held anything")

    run = Run(late_s=4 * TICK_S)
    stats = await run.whole(kill)
    run.check()
    assert stats["replay/deaths"] >= 1


async def test_a_publication_that_comes_late_loses_nothing():
    run = Run(late_s=20 * TICK_S)
    stats = await run.whole()
    run.check()
    assert stats["replay/moves"] >= 1
    assert stats["replay/wasted_tokens"] == 0


async def test_one_whose_time_is_over_loads_and_the_period_goes_on():
    run = Run()
    object.__setattr__(run.config.sync, "timeout_s", 20 * TICK_S)  # half of it is 10 tokens
    stats = await run.whole()
    run.check()
    assert stats["replay/filled_groups"] >= 1

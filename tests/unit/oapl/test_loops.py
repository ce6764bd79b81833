"""Algorithm 1 with fakes that check the contract: real replay, real loops, no model."""

import asyncio

import numpy as np
import pytest

from oapl import batching, loops
from oapl.config.objective import History
from oapl.errors import DeadlineError, DiedError, EngineError
from oapl.evaluation import Protocol
from oapl.loops import collect, evaluate, learn
from oapl.records import (
    EvalAnswers,
    Judgement,
    MiniBatch,
    Rollout,
    Sampling,
    Verdict,
    WorkerId,
)
from oapl.remote import batched_calls
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from tests.support.sleepers import CountingSource, keep

pytestmark = pytest.mark.leaping

G, PER_STEP, L = 2, 3, 4
WORKER = WorkerId(index=0)


@pytest.fixture(autouse=True)
def _quick_waits(monkeypatch):
    monkeypatch.setattr(loops, "POLL_S", 0.05)
    monkeypatch.setattr(batched_calls, "GATHER_S", 0.0)
    monkeypatch.setattr(batched_calls, "PACE_S", 0.0)


class ShortSource(CountingSource):
    def __init__(self, size):
        super().__init__()
        self._size = size

    def next(self):
        return super().next() if self._next < self._size else None


class CheckedEngine:
    """Samples one token; ends what is in flight as aborted when a load cuts it off."""

    def __init__(self):
        self.version = -1
        self.fault = None
        self.slow = asyncio.Event()
        self.slow.set()
        self.in_flight = set()

    async def generate(self, prompt, sampling):
        assert self.version >= 0, "asked to generate before the first load"
        if self.fault:
            raise self.fault
        version, gate = self.version, asyncio.ensure_future(self.slow.wait())
        cut = asyncio.get_running_loop().create_future()
        self.in_flight.add(cut)
        await asyncio.wait({gate, cut}, return_when=asyncio.FIRST_COMPLETED)
        self.in_flight.discard(cut)
        gate.cancel()
        await asyncio.sleep(0)
        return Rollout(
            token_ids=np.array([2], np.int32),
            inference_logprobs=np.zeros(1, np.float32),
            finish_reason="abort" if cut.done() else "stop",
            text="x",
            first_version=version,
            last_version=version,
        )

    def load(self, version):
        assert version > self.version, "versions only grow"
        for cut in self.in_flight:
            cut.set_result(None)
        self.version = version


class CheckedScorer:
    def __init__(self):
        self.failure = None

    async def score(self, tasks):
        assert all(rollout.finish_reason != "abort" for _, rollout in tasks)
        verdict = {"fake": Verdict(kind="accepted", reward=1.0)}
        return [Judgement(reward=1.0, verdicts=verdict, failure=self.failure) for _ in tasks]


class CheckedLearner:
    """Records its acts in order, and checks that no batch is of another version.

    An engine holds a publication ahead of its period only when the next step is made, as if it took
    that long to load.
    """

    def __init__(self, engine, skip=(), max_versions=1, passes=1):
        self.step, self.begin, self.max_versions = 0, -1, max_versions
        self.acts, self.lags, self.versions, self.takes, self.points = [], [], {}, [], []
        self._engine, self._skip, self._loads = engine, skip, None
        self._passes = passes

    async def checkpoint_if_due(self):
        self.acts.append(("checkpoint", self.step))

    async def publish(self, begin):
        assert begin >= self.step
        assert begin % L == 0
        assert begin not in self.versions, f"two versions for the period of {begin}"
        self.acts.append(("publish", self.step))
        self.versions[begin], self.begin = self.step, begin
        if begin == self.step:
            self._engine.load(self.step)
        else:
            self._loads = self.step

    async def evaluate_if_due(self):
        assert self.begin >= 0, "a version is served before anything is evaluated"
        self.points.append(self.step)

    async def prepare(self, groups):
        self.takes.append([(group.id, group.is_history) for group in groups])
        parts = batching.divide(groups, PER_STEP)
        return [MiniBatch(groups=part, number=i) for i, part in enumerate(parts)] * self._passes

    async def update(self, part):
        groups = part.groups
        self.acts.append(("update", self.step))
        until = list(self.versions.values()).index(self.versions[self.step // L * L]) + 1
        usable = list(self.versions.values())[max(0, until - self.max_versions) : until]
        versions = [group.scored.group.version for group in groups if not group.is_history]
        assert set(versions) <= set(usable)
        assert versions == sorted(versions), "the oldest first"
        self.lags.append(self.step - versions[0])
        self.step += 1
        await asyncio.sleep(0.002)
        if self._loads is not None:
            self._engine.load(self._loads)
            self._loads = None
        return self.step not in self._skip

    async def report(self):
        pass


class RecordedReplay:
    """What the learner asks of replay, among its own acts."""

    def __init__(self, replay, learner):
        self._replay, self._learner = replay, learner

    def __getattr__(self, name):
        async def call(*args):
            self._learner.acts.append((name, self._learner.step))
            return await getattr(self._replay, name)(*args)

        return call


class Bench:
    """Replay, a worker that collects under each version, and a learner."""

    def __init__(self, source=None, max_steps=3 * L, skip=(), max_lead=0, **periods):
        self.max_lead = max_lead
        self.engine, self.scorer = CheckedEngine(), CheckedScorer()
        kept, passes = periods.get("max_versions", 1), periods.get("updates_per_batch", 1)
        self.learner = CheckedLearner(self.engine, skip, kept, passes)
        self.mini_batches = periods.get("mini_batches", 1)
        self.stop = asyncio.Event()
        self.max_steps = max_steps
        self.replay = ReplayBuffer(
            source or CountingSource(),
            keep,
            PeriodNeeds(
                groups_per_step=PER_STEP,
                interval=L,
                max_steps=max_steps,
                capacity=100,
                group_size=G,
                **periods,
            ),
        )

    async def collect_once(self):
        await collect(
            WORKER,
            engine=self.engine,
            scorer=self.scorer,
            replay=self.replay,
            sampling=Sampling(max_tokens=4),
            group_size=G,
            max_groups_in_flight=5,
            stop=self.stop,
        )

    async def work(self):
        done = -1
        while not self.stop.is_set():
            if self.engine.version == done:
                await asyncio.sleep(0.001)
                continue
            done = self.engine.version
            await self.collect_once()

    async def run(self, timeout_s=5, outlast=None):
        working = asyncio.ensure_future(self.work())
        try:
            await learn(
                self.learner,
                replay=RecordedReplay(self.replay, self.learner),
                groups_per_step=PER_STEP,
                interval=L,
                max_steps=self.max_steps,
                timeout_s=timeout_s,
                stop=self.stop,
                max_lead=self.max_lead,
                mini_batches=self.mini_batches,
                outlast=outlast,
            )
        finally:
            self.stop.set()
            self.engine.slow.set()
            await working


async def test_without_a_lead_the_acts_are_those_of_algorithm_1_step_for_step():
    bench = Bench()
    await bench.run()
    expected = []
    for step in range(3 * L):
        if step % L == 0:  # every L steps: clear the buffer, publish
            expected += [("advance", step), ("checkpoint", step), ("publish", step)]
        expected += [("take", step), ("update", step), ("trained", step + 1)]
    assert bench.learner.acts == expected
    assert bench.learner.points == list(range(3 * L)), "an evaluation may begin at any step"
    assert bench.learner.lags == [0, 1, 2, 3] * 3
    assert (await bench.replay.counts())["trained"] == 3 * L * PER_STEP


@pytest.mark.parametrize(("mini_batches", "passes"), [(2, 1), (1, 2), (2, 2), (4, 1)])
async def test_an_iteration_takes_once_and_makes_its_steps_between_publications(
    mini_batches, passes
):
    bench = Bench(mini_batches=mini_batches, updates_per_batch=passes)
    await bench.run()
    expected = []
    for step in range(0, 3 * L, mini_batches * passes):
        if step % L == 0:
            expected += [("advance", step), ("checkpoint", step), ("publish", step)]
        steps = range(step, step + mini_batches * passes)
        expected += [
            ("take", step),
            *(("update", one) for one in steps),
            ("trained", steps[-1] + 1),
        ]
    assert bench.learner.acts == expected
    counts = await bench.replay.counts()
    assert counts["drawn"] == counts["trained"] == 3 * L * PER_STEP // passes


@pytest.mark.parametrize(("skip", "dropped"), [((2, 4), 1), ((2,), 0), ((1, 2, 3, 4), 2)])
async def test_a_group_is_dropped_when_no_step_on_it_was_applied(skip, dropped):
    bench = Bench(max_steps=L, skip=skip, mini_batches=2, updates_per_batch=2)
    await bench.run()
    counts = await bench.replay.counts()
    assert (counts["dropped"], counts["trained"]) == (dropped * PER_STEP, (2 - dropped) * PER_STEP)


@pytest.mark.parametrize(("max_uses", "passes"), [(2, 1), (4, 1), (2, 2)])
async def test_with_several_uses_a_period_makes_its_steps_of_fewer_groups(max_uses, passes):
    bench = Bench(max_uses=max_uses, updates_per_batch=passes)
    await bench.run()
    takes = [[id for id, _ in take] for take in bench.learner.takes]
    per_period = L // passes
    assert bench.learner.step == 3 * L
    assert [len(take) for take in takes] == [PER_STEP] * 3 * per_period
    for start in range(0, len(takes), per_period):
        period = [id for take in takes[start : start + per_period] for id in take]
        assert {period.count(id) for id in period} == {max_uses}
    counts, stats = await bench.replay.counts(), await bench.replay.stats()
    groups = 3 * per_period * PER_STEP // max_uses
    assert counts["drawn"] == counts["trained"] == groups
    assert stats["replay/reused"] == groups * (max_uses - 1)


async def test_with_history_an_iteration_has_its_share_until_t_and_closes_only_fresh_groups():
    history = History(share=0.5, iterations=2, until=3)
    options = {"mini_batches": 2, "updates_per_batch": 2, "history": history}
    bench = Bench(max_steps=4 * L, **options)
    await bench.run()
    lent = [sum(is_history for _, is_history in take) for take in bench.learner.takes]
    assert [len(take) for take in bench.learner.takes] == [2 * PER_STEP] * 4
    assert lent == [0, 3, 3, 0]
    counts = await bench.replay.counts()
    assert counts["drawn"] == counts["trained"] == 4 * 2 * PER_STEP - 6
    assert counts["leased"] == 0


async def test_groups_of_an_iteration_whose_steps_were_all_skipped_are_no_history():
    history = History(share=0.5, iterations=1)
    options = {"mini_batches": 2, "updates_per_batch": 2, "history": history}
    bench = Bench(max_steps=3 * L, skip=(1, 2, 3, 4), **options)
    await bench.run()
    lent = [sum(is_history for _, is_history in take) for take in bench.learner.takes]
    assert lent == [0, 0, 3]
    counts = await bench.replay.counts()
    assert (counts["dropped"], counts["trained"]) == (2 * PER_STEP, 3 * PER_STEP)


async def test_a_period_that_does_not_hold_whole_iterations_ends_with_a_short_one():
    """As after a resume with other settings."""
    bench = Bench(mini_batches=3)
    await bench.run()
    assert [step for act, step in bench.learner.acts if act == "take"] == [0, 3, 4, 7, 8, 11]
    assert (await bench.replay.counts())["trained"] == 3 * L * PER_STEP


async def test_a_lead_counts_the_steps_of_iterations_to_come():
    bench = Bench(max_steps=6 * L, max_lead=2, mini_batches=2, surplus=0.5)
    await bench.run()
    leads = [begin - version for begin, version in bench.learner.versions.items()]
    assert leads == [0, *[2] * 5]
    assert max(bench.learner.lags) <= L + 1


@pytest.mark.parametrize(
    ("max_lead", "largest"), [(1, L), (2, L + 1), (L, 2 * L - 1), (9, 2 * L - 1)]
)
async def test_with_a_lead_the_next_version_comes_before_the_period_ends(max_lead, largest):
    bench = Bench(max_steps=6 * L, max_lead=max_lead, surplus=0.5)
    await bench.run()
    versions = bench.learner.versions
    assert list(versions) == [period * L for period in range(6)], "periods stay L steps"
    leads = [begin - version for begin, version in versions.items()]
    assert leads[0] == 0
    assert all(0 < lead <= max_lead for lead in leads[1:]), leads
    assert max(leads) >= min(max_lead, L - 1), "as early as it may be"
    assert max(bench.learner.lags) <= largest
    assert bench.learner.step == 6 * L
    checkpoints = [step for act, step in bench.learner.acts if act == "checkpoint"]
    assert checkpoints == list(versions), "at the periods' ends, lead or not"
    stats = await bench.replay.stats()
    assert stats["replay/lag_max"] == max(bench.learner.lags)


async def test_the_last_period_is_short_and_nothing_is_published_ahead_of_the_end():
    bench = Bench(max_steps=2 * L + 1, max_lead=2)
    await bench.run()
    assert list(bench.learner.versions) == [0, L, 2 * L]
    counts = await bench.replay.counts()
    assert counts["trained"] == counts["drawn"] - counts["queued"]


async def test_with_a_lead_data_that_ends_ends_the_run():
    bench = Bench(source=ShortSource(6 * PER_STEP + 1), max_lead=2)
    await bench.run()
    assert bench.learner.step == 7
    assert (await bench.replay.counts())["trained"] == 6 * PER_STEP + 1


async def test_without_surplus_exactly_the_needed_groups_are_generated():
    bench = Bench()
    await bench.run()
    counts = await bench.replay.counts()
    assert counts["drawn"] == counts["trained"]


async def test_a_surplus_is_cleared_at_the_synchronisation_and_its_draws_return():
    bench = Bench(surplus=0.5)
    await bench.run()
    stats, counts = await bench.replay.stats(), await bench.replay.counts()
    assert stats["replay/cleared_groups"] > 0
    assert counts["trained"] == 3 * L * PER_STEP


async def test_with_two_versions_a_surplus_is_trained_on_first_in_the_next_period():
    bench = Bench(surplus=0.5, max_versions=2)
    await bench.run()
    stats, counts = await bench.replay.stats(), await bench.replay.counts()
    assert stats["replay/cleared_groups"] == 0
    assert counts["trained"] == 3 * L * PER_STEP
    lags = bench.learner.lags
    assert lags[:L] == list(range(L))
    assert L in lags
    assert max(lags) < 2 * L


async def test_what_is_in_flight_at_a_synchronisation_is_aborted_counted_and_drawn_again():
    bench = Bench(surplus=1.0)
    bench.engine.load(0)
    await bench.replay.advance(0)
    bench.engine.slow.clear()
    collecting = asyncio.ensure_future(bench.collect_once())
    while len(bench.engine.in_flight) < 5 * G:
        await asyncio.sleep(0)
    await bench.replay.advance(L)
    bench.engine.load(L)
    await collecting
    stats = await bench.replay.stats()
    assert stats["replay/wasted_tokens"] == 5 * G
    again = await bench.replay.next_prompts(WORKER, L, 5, 1.0)
    assert sorted(p.id for p in again) == [f"p{i}" for i in range(1, 6)]
    assert all(p.attempt == 1 for p in again)


async def test_a_group_that_began_after_the_next_load_is_not_put():
    bench = Bench(source=ShortSource(1))
    bench.engine.load(0)
    await bench.replay.advance(0)
    collecting = asyncio.ensure_future(bench.collect_once())
    while (await bench.replay.counts())["in_flight"] < 1:
        await asyncio.sleep(0)
    bench.engine.load(L)  # before the group's requests reach the engine
    while (await bench.replay.counts())["in_flight"]:
        await asyncio.sleep(0)
    bench.stop.set()
    await collecting
    assert (await bench.replay.stats())["replay/accepted"] == 0


async def test_the_end_of_the_data_ends_the_run_with_a_short_batch():
    bench = Bench(source=ShortSource(2 * PER_STEP + 1))
    await bench.run()
    assert bench.learner.step == 3
    assert (await bench.replay.counts())["trained"] == 2 * PER_STEP + 1


async def test_a_skipped_step_counts_as_a_step_and_its_groups_are_dropped():
    bench = Bench(skip=(2,))
    await bench.run()
    counts = await bench.replay.counts()
    assert bench.learner.step == 3 * L
    assert (counts["dropped"], counts["trained"]) == (PER_STEP, (3 * L - 1) * PER_STEP)


async def test_a_request_to_stop_is_heard_while_the_learner_waits_for_a_batch():
    bench = Bench()
    bench.engine.slow.clear()
    asyncio.get_running_loop().call_later(0.05, bench.stop.set)
    await asyncio.wait_for(bench.run(), 3)
    assert bench.learner.step == 0


class ResumedLearner(CheckedLearner):
    """Goes on at step 6 from a run of another interval, whose period had ended there."""

    def __init__(self, engine):
        super().__init__(engine)
        self.step = 6

    async def publish(self, begin):
        self.acts.append(("publish", self.step))
        self.versions[begin // L * L], self.begin = self.step, begin
        self._engine.load(self.step)


async def test_a_run_resumed_between_two_boundaries_of_its_own_publishes_first():
    bench = Bench()
    bench.learner = ResumedLearner(bench.engine)
    saved = await bench.replay.snapshot()
    await bench.replay.restore({**saved, "step": 6, "begin": 3, "usable": (3,)})
    await bench.run()
    acts = bench.learner.acts
    assert acts[:4] == [("advance", 6), ("checkpoint", 6), ("publish", 6), ("take", 6)]
    assert [step for act, step in acts if act == "publish"] == [6, 8]
    assert bench.learner.step == 3 * L


async def test_a_wait_for_a_batch_is_made_by_whoever_knows_better():
    bench, waits = Bench(), []

    async def outlast(take, timeout_s):
        waits.append(timeout_s)
        return await take(5)

    await bench.run(timeout_s=0.001, outlast=outlast)
    assert waits == [0.001] * 3 * L


async def test_a_batch_that_never_comes_names_who_was_awaited():
    bench = Bench()
    bench.engine.slow.clear()
    with pytest.raises(DeadlineError, match=r"worker 0\.0 has"):
        await bench.run(timeout_s=0.2)


async def test_an_engine_fault_gives_every_prompt_back():
    bench = Bench()
    bench.engine.load(0)
    bench.engine.fault = EngineError("gone")
    with pytest.raises(EngineError):
        await bench.collect_once()
    counts = await bench.replay.counts()
    assert counts["in_flight"] == 0
    assert counts["queued"] == 5


async def test_a_prompt_that_does_not_fit_fails_alone():
    bench = Bench(source=ShortSource(3))
    bench.engine.load(0)
    bench.engine.fault = ValueError("too long")
    collecting = asyncio.ensure_future(bench.collect_once())
    while (await bench.replay.counts())["failed"] < 3:
        await asyncio.sleep(0)
    bench.stop.set()
    await collecting
    assert await bench.replay.fates() == {"failed:too long": 3}


async def test_a_group_without_a_verdict_fails_and_is_never_a_silent_zero():
    bench = Bench(source=ShortSource(1))
    bench.engine.load(0)
    bench.scorer.failure = "no reward server"
    collecting = asyncio.ensure_future(bench.collect_once())
    while (await bench.replay.counts())["failed"] < 1:
        await asyncio.sleep(0)
    bench.stop.set()
    await collecting
    assert await bench.replay.fates() == {"failed:no reward server": 1}


class Examined:
    """Answers a problem in a second; dies at its `dies_at`th call."""

    def __init__(self, seconds=1.0, dies_at=0):
        self.calls, self.most, self.asked = 0, 0, []
        self._seconds, self._dies_at, self._now = seconds, dies_at, 0

    async def evaluate(self, prompts, terms):
        self.calls += 1
        self._now += 1
        self.most = max(self.most, self._now)
        self.asked.append(len(prompts))
        await asyncio.sleep(self._seconds)
        self._now -= 1
        if self.calls >= self._dies_at > 0:
            raise DiedError("killed by signal 9")
        return [EvalAnswers(prompt=p, rollouts=(), judgements=()) for p in prompts]


async def examine(workers, count, num_samples=1, greedy=False):
    """Evaluate so many prompts; give the numbers of those that were answered, as they came."""
    source, found = CountingSource(), []
    prompts = [source.next() for _ in range(count)]
    protocol = Protocol(sampling=Sampling(), num_samples=num_samples, greedy=greedy)
    numbers = {prompt.id: number for number, prompt in enumerate(prompts)}
    try:
        await evaluate(
            workers,
            prompts,
            protocol=protocol,
            answered=lambda one: found.append(numbers[one.prompt.id]),
            timeout_s=100.0,
        )
    except DiedError:
        found.append("died")
    return found


async def test_every_problem_of_an_evaluation_is_asked_once_by_whoever_has_room(monkeypatch):
    monkeypatch.setattr(loops, "CALLS", 2)
    slow, quick = Examined(seconds=4.0), Examined(seconds=1.0)
    found = await examine([slow, quick], 20, num_samples=16)
    assert sorted(found) == list(range(20))
    assert (slow.most, quick.most) == (2, 2)
    assert (slow.calls, quick.calls) == (4, 16)


@pytest.mark.parametrize(
    ("num_samples", "greedy", "asked"), [(8, True, 1), (1, False, 16), (0, True, 16), (64, True, 1)]
)
async def test_problems_that_are_asked_seldom_share_a_call(num_samples, greedy, asked):
    worker = Examined()
    found = await examine([worker], 48, num_samples, greedy)
    assert sorted(found) == list(range(48))
    assert set(worker.asked) == {asked}


async def test_each_call_of_an_evaluation_has_what_is_left_of_its_time(monkeypatch):
    class Timed(Examined):
        left = ()

        async def evaluate(self, prompts, terms):
            self.left = (*self.left, terms.timeout_s)
            return await super().evaluate(prompts, terms)

    monkeypatch.setattr(loops, "CALLS", 1)
    worker = Timed(seconds=1.0)
    await examine([worker], 3, num_samples=16)
    assert worker.left == pytest.approx((100, 99, 98))


async def test_a_worker_that_dies_in_an_evaluation_leaves_the_rest_to_the_others(monkeypatch):
    monkeypatch.setattr(loops, "CALLS", 1)
    found = await examine([Examined(dies_at=2), Examined()], 12, num_samples=16)
    assert found[-1] == "died"
    assert sorted(found[:-1]) == list(range(12))


async def test_what_nobody_could_answer_is_left_out_when_all_have_died(monkeypatch):
    monkeypatch.setattr(loops, "CALLS", 1)
    found = await examine([Examined(dies_at=2)], 12, num_samples=16)
    assert found == [0, "died"]


@pytest.mark.parametrize(
    ("slots", "num_samples", "calls", "asked"),
    [(32, 8, 2, 2), (4, 8, 1, 1), (4, 1, 1, 4), (5000, 1, 48 // 16, 16)],
)
async def test_beside_rollouts_a_worker_answers_as_often_at_once_as_it_may(
    slots, num_samples, calls, asked
):
    class Sharing(Examined):
        async def evaluate(self, prompts, terms):
            assert terms.gives_way, "a load need not wait"
            return await super().evaluate(prompts, terms)

    worker, source = Sharing(), CountingSource()
    prompts, found = [source.next() for _ in range(48)], []
    protocol = Protocol(sampling=Sampling(), num_samples=num_samples, greedy=False)
    asked_so = {"protocol": protocol, "answered": found.append, "timeout_s": 60.0}
    await evaluate([worker], prompts, slots=slots, **asked_so)
    assert len(found) == 48
    assert (worker.most, max(worker.asked)) == (calls, asked)

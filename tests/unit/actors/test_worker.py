"""RolloutWorker with a fake engine: loads, probe bounds, faults, evaluation, the end."""

import asyncio

import numpy as np
import pytest

from actors import worker as module
from actors.engines.base import probe_bound
from actors.scoring import BatchedScorer
from actors.worker import PING_S, RolloutWorker
from oapl.config import RunConfig
from oapl.errors import DeadlineError, EngineError, ProbeError, StaleError, WeightsError
from oapl.records import Prompt, Sampling, Terms, WorkerId
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from tests.support.fakes import FakeEngine, FakeServer, publication
from tests.support.sleepers import CountingSource, keep

pytestmark = pytest.mark.leaping

FP32 = {"model": {"dtype": "float32"}, "learner": {"precision": "fp32"}}


def make_replay(**periods):
    return ReplayBuffer(
        CountingSource(),
        keep,
        PeriodNeeds(
            groups_per_step=2, interval=4, max_steps=8, capacity=100, group_size=2, **periods
        ),
    )


def make_worker(engine, replay=None, server=None, **config):
    rollout = {"group_size": 2, "max_tokens": 4, "max_groups_in_flight": 3}
    return RolloutWorker(
        RunConfig(rollout=rollout | config.pop("rollout", {}), **config),
        worker=WorkerId(index=0),
        engine=engine,
        scorer=BatchedScorer([server or FakeServer()], limit_s=5.0, restart_s=0.01),
        replay=replay or make_replay(),
    )


def terms(num_samples, sampling=None, greedy=False, timeout_s=3600.0, gives_way=False):
    return Terms(
        sampling=sampling or Sampling(),
        num_samples=num_samples,
        greedy=greedy,
        timeout_s=timeout_s,
        gives_way=gives_way,
    )


def prompts(count):
    return [
        Prompt(
            id=f"q{i}",
            text="",
            token_ids=np.zeros(i + 1, np.int32),
            verifiers={},
            reference={},
            source="s",
        )
        for i in range(count)
    ]


async def soon(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that within 10 s")


@pytest.mark.parametrize(
    ("config", "bound"),
    [
        (FP32, 1.001),
        ({"model": {"dtype": "float32"}, "learner": {"precision": "bf16"}}, 1.10),
        ({"model": {"dtype": "bfloat16"}, "learner": {"precision": "fp32"}}, 1.10),
        ({**FP32, "sync": {"probe_bound": 1.02}}, 1.02),
    ],
)
def test_the_probe_bound_follows_the_precisions(config, bound):
    assert probe_bound(RunConfig(**config)) == bound


async def test_an_older_version_is_skipped_and_an_equal_one_is_not():
    engine = FakeEngine()
    worker = make_worker(engine)
    await worker.load(publication(5))
    assert (await worker.load(publication(3))).version == 5
    await worker.load(publication(5))
    assert engine.acts == ["load 5", "load 5"]
    assert (await worker.stats())["weights/skipped_loads"] == 1


async def test_loads_do_not_overlap():
    engine = FakeEngine()
    worker = make_worker(engine)
    await asyncio.gather(*(worker.load(publication(v)) for v in (1, 2, 3)))
    assert engine.version == 3


@pytest.mark.parametrize("ratio", [1.2, float("nan"), float("inf")])
async def test_an_engine_out_of_bounds_is_rebuilt_once(ratio):
    engine = FakeEngine(ratios=(ratio, 1.0))
    worker = make_worker(engine)
    assert (await worker.load(publication(1))).ratio == 1.0
    assert engine.acts == ["load 1", "rebuild", "load 1"]
    assert (await worker.stats())["faults/probe_failures"] == 1


async def test_an_engine_that_stays_out_of_bounds_stops_the_run_with_the_figures():
    engine = FakeEngine(ratios=(1.0005, 1.25))
    worker = make_worker(engine, **FP32)
    await worker.load(publication(1))
    with pytest.raises(ProbeError, match=r"version 2: mean .* is 1\.25 over 10 tokens .* 1\.001"):
        await worker.load(publication(2))
    assert engine.version == -1, "nothing may be collected with it"


async def test_a_probe_near_the_bound_is_counted():
    worker = make_worker(FakeEngine(ratios=(1.06,)))
    await worker.load(publication(1))
    assert (await worker.stats())["faults/probe_warnings"] == 1


async def test_a_refused_publication_is_reported_and_the_next_one_is_taken():
    engine = FakeEngine()
    worker = make_worker(engine)
    await worker.load(publication(4))
    engine.load_error = WeightsError("incomplete")
    with pytest.raises(WeightsError, match="incomplete"):
        await worker.load(publication(8))
    assert (await worker.load(publication(4))).version == 4


async def test_it_collects_under_each_version_and_stops():
    engine, replay = FakeEngine(seconds=0.01), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await asyncio.sleep(0.05)
    assert not engine.asked, "nothing is sampled before the first load"
    for step in (0, 4):
        await replay.advance(step)
        await worker.load(publication(step))
        groups = await replay.take(8, 10)
        assert {group.scored.group.version for group in groups} == {step}
        await replay.trained([group.id for group in groups], step + 4)
    await worker.stop()
    await asyncio.wait_for(run, 5)
    assert engine.closed


async def test_an_engine_that_drains_hands_in_whole_what_it_had_begun():
    engine, replay = (
        FakeEngine(seconds=0.2, drains=True),
        make_replay(max_versions=2, drains=True, surplus=1.0),
    )
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    await soon(lambda: len(engine.asked) == 6)
    await replay.advance(4)
    await worker.load(publication(4))
    groups = await replay.take(4, 10)
    assert [group.scored.group.version for group in groups] == [0, 0, 0, 4]
    stats = await replay.stats()
    assert stats["replay/accepted"] >= 4
    for name in ("wasted_tokens", "returned", "refused_stale", "cleared_groups"):
        assert stats[f"replay/{name}"] == 0, name
    await worker.stop()
    await asyncio.wait_for(run, 5)


async def test_what_is_in_flight_at_the_stop_goes_back_to_replay():
    engine, replay = FakeEngine(seconds=60), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    await soon(lambda: len(engine.asked) == 6)
    await worker.stop()
    await asyncio.wait_for(run, 5)
    assert (await replay.stats())["replay/in_flight"] == 0


async def test_a_fault_rebuilds_the_engine_with_the_weights_it_held_and_goes_on():
    engine, replay = FakeEngine(seconds=0.02), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    await soon(lambda: engine.asked)
    engine.break_down(EngineError("a kernel broke"))
    assert len(await replay.take(8, 10)) == 8
    assert engine.acts == ["load 0", "rebuild", "load 0"]
    assert (await worker.stats())["faults/engine"] == 1
    await worker.stop()
    await asyncio.wait_for(run, 5)


async def test_a_publication_that_comes_to_a_broken_engine_mends_it():
    engine, replay = FakeEngine(seconds=0.05), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    await soon(lambda: engine._in_flight)
    engine.break_down(EngineError("a kernel broke"))
    await replay.advance(4)
    await worker.load(publication(4))
    groups = await replay.take(8, 10)
    assert {group.scored.group.version for group in groups} == {4}
    assert engine.acts == ["load 0", "rebuild", "load 4"]
    await worker.stop()
    await asyncio.wait_for(run, 5)


async def test_a_second_fault_soon_after_ends_the_worker():
    engine, replay = FakeEngine(seconds=60), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    for count in (6, 12):
        await soon(lambda count=count: len(engine.asked) == count)
        engine.break_down(EngineError("a kernel broke"))
    with pytest.raises(EngineError, match="a kernel broke"):
        await asyncio.wait_for(run, 5)
    assert (await replay.stats())["replay/in_flight"] == 0


async def test_a_second_fault_much_later_is_survived(monkeypatch):
    monkeypatch.setattr(module, "FAULT_WINDOW_S", 0.0)
    engine, replay = FakeEngine(seconds=0.05), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    for _ in range(2):
        await soon(lambda: engine._in_flight)
        engine.break_down(EngineError("a kernel broke"))
        await soon(lambda: engine.fault is None)
    assert len(await replay.take(8, 10)) == 8
    await worker.stop()
    await asyncio.wait_for(run, 5)


async def test_evaluation_judges_every_sample_and_the_greedy_answer():
    engine = FakeEngine()
    worker = make_worker(engine)
    await worker.load(publication(0))
    sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=4)
    answers = await worker.evaluate(
        prompts(3), terms(sampling=sampling, num_samples=2, greedy=True)
    )
    assert [a.prompt.id for a in answers] == ["q0", "q1", "q2"]
    for index, answer in enumerate(answers):
        assert len(answer.rollouts) == 2
        rewards = [*(j.reward for j in answer.judgements), answer.greedy_judgement.reward]
        assert rewards == [index + 1] * 3
    temperatures = sorted(sampling.temperature for _, sampling in engine.asked)
    assert temperatures == [0.0] * 3 + [0.8] * 6
    assert all(s.top_p == 1.0 for _, s in engine.asked if s.temperature == 0)


async def test_evaluation_without_a_greedy_answer_or_without_samples():
    worker = make_worker(FakeEngine())
    (answer,) = await worker.evaluate(prompts(1), terms(num_samples=2))
    assert answer.greedy is None
    assert answer.greedy_judgement is None
    (answer,) = await worker.evaluate(prompts(1), terms(num_samples=0, greedy=True))
    assert answer.rollouts == ()
    assert answer.greedy is not None


async def test_no_load_comes_between_the_rollouts_of_an_evaluation():
    engine = FakeEngine(seconds=0.1)
    worker = make_worker(engine)
    await worker.load(publication(0))
    evaluation = asyncio.create_task(worker.evaluate(prompts(2), terms(num_samples=2)))
    await asyncio.sleep(0.02)
    await worker.load(publication(4))
    answers = await evaluation
    rollouts = [rollout for answer in answers for rollout in answer.rollouts]
    assert {(r.finish_reason, r.last_version) for r in rollouts} == {("stop", 0)}


async def test_an_evaluation_that_nobody_waits_for_any_longer_holds_no_load_up():
    engine = FakeEngine(seconds=1e6)
    worker = make_worker(engine)
    await worker.load(publication(0))
    asking = worker.evaluate(prompts(2), terms(num_samples=2, timeout_s=5.0))
    evaluation = asyncio.create_task(asking)
    await soon(lambda: engine.asked)
    began = asyncio.get_running_loop().time()
    await worker.load(publication(4))
    assert asyncio.get_running_loop().time() - began == pytest.approx(5.0, abs=0.1)
    with pytest.raises(DeadlineError, match=r"worker 0\.0 to answer 2 evaluation prompts"):
        await evaluation
    assert not engine._in_flight, "nor the engine busy"


async def test_calls_of_an_evaluation_go_on_together_and_a_load_waits_for_the_last():
    engine = FakeEngine(seconds=1.0)
    worker = make_worker(engine)
    await worker.load(publication(0))
    began = asyncio.get_running_loop().time()
    calls = []
    for _ in range(3):
        calls.append(asyncio.create_task(worker.evaluate(prompts(2), terms(num_samples=1))))
        await asyncio.sleep(0.25)
    await worker.load(publication(4))
    answers = [answer for call in calls for answer in await call]
    assert {rollout.last_version for answer in answers for rollout in answer.rollouts} == {0}
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.5, abs=0.1)
    assert engine.version == 4


async def test_an_evaluation_that_gives_way_is_cut_off_by_a_load():
    engine = FakeEngine(seconds=1.0)
    worker = make_worker(engine)
    await worker.load(publication(0))
    asking = worker.evaluate(prompts(2), terms(num_samples=2, gives_way=True))
    evaluation = asyncio.create_task(asking)
    await asyncio.sleep(0.25)
    began = asyncio.get_running_loop().time()
    await worker.load(publication(4))
    assert asyncio.get_running_loop().time() - began < 0.1
    with pytest.raises(StaleError, match=r"worker 0\.0: an evaluation of version 0 was cut"):
        await evaluation
    answers = await worker.evaluate(prompts(2), terms(num_samples=2, gives_way=True))
    assert {rollout.last_version for answer in answers for rollout in answer.rollouts} == {4}


async def test_an_evaluation_survives_one_engine_fault():
    engine = FakeEngine(seconds=0.1)
    worker = make_worker(engine)
    await worker.load(publication(0))
    evaluation = asyncio.create_task(worker.evaluate(prompts(2), terms(num_samples=2, greedy=True)))
    await asyncio.sleep(0.02)
    engine.break_down(EngineError("a kernel broke"))
    answers = await asyncio.wait_for(evaluation, 10)
    assert len(answers) == 2
    assert engine.acts == ["load 0", "rebuild", "load 0"]


async def test_a_worker_collects_with_the_models_own_weights_and_so_does_its_rebuilt_engine():
    engine = FakeEngine(seconds=0.05)
    replay = ReplayBuffer(
        CountingSource(),
        keep,
        PeriodNeeds(groups_per_step=1, interval=99, max_steps=99, capacity=100, group_size=2),
        version=-1,
    )
    worker = make_worker(engine, replay)
    running = asyncio.create_task(worker.run(True))
    first = await replay.take(2, 10.0)
    assert {group.scored.group.version for group in first} == {-1}
    await replay.trained([group.id for group in first], 2)
    await soon(lambda: engine._in_flight)
    engine.break_down(EngineError("a kernel broke"))
    await soon(lambda: engine.fault is None)
    again = await replay.take(9, 10.0)
    assert {group.scored.group.version for group in again} == {-1}
    assert engine.acts == ["rebuild"]
    await worker.stop()
    await asyncio.wait_for(running, 5)


async def test_a_worker_that_only_evaluates_waits_for_its_end():
    worker = RolloutWorker(
        RunConfig(),
        worker=WorkerId(index=0),
        engine=FakeEngine(),
        scorer=BatchedScorer([FakeServer()], limit_s=5.0, restart_s=0.01),
        replay=None,
    )
    await worker.load(publication(0))
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0.02)
    assert not running.done()
    assert len(await worker.evaluate(prompts(2), terms(num_samples=1))) == 2
    await worker.stop()
    await asyncio.wait_for(running, 5)


async def test_an_engine_that_hangs_ends_its_worker():
    """Nothing of what is in flight comes to an end, and nobody waits for it."""
    engine, replay = FakeEngine(seconds=1e6), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    await replay.advance(0)
    await worker.load(publication(0))
    await soon(lambda: engine.asked)
    engine.hangs = True
    hung_at = asyncio.get_running_loop().time()
    with pytest.raises(EngineError, match=r"for 120 s: .*, raise rollout\.engine_silence_s"):
        await asyncio.wait_for(run, 300)
    assert engine._in_flight
    lasted_s = asyncio.get_running_loop().time() - hung_at
    assert 120 <= lasted_s <= 120 + PING_S + 1


async def test_how_long_an_engine_may_be_silent_is_a_setting():
    engine = FakeEngine(seconds=1e6)
    worker = make_worker(engine, make_replay(), rollout={"engine_silence_s": 900.0})
    run = asyncio.create_task(worker.run())
    engine.hangs = True
    await asyncio.sleep(890)
    assert not run.done()
    with pytest.raises(EngineError, match="for 900 s"):
        await asyncio.wait_for(run, 20)


@pytest.mark.parametrize("how", ["once", "loading", "failed"])
async def test_an_engine_that_is_only_late_or_loads_or_has_failed_does_not_hang(how):
    engine, replay = FakeEngine(seconds=1e6), make_replay()
    worker = make_worker(engine, replay)
    run = asyncio.create_task(worker.run())
    if how == "once":
        engine.hangs = True
        asyncio.get_running_loop().call_later(40, setattr, engine, "hangs", False)
    if how == "loading":
        await worker._lock.acquire()
        engine.hangs = True
    if how == "failed":
        engine.ping = failing
    await asyncio.sleep(600)
    assert not run.done()
    assert (engine.pings > 0) == (how == "once")
    assert (engine.pings > 20) == (how == "once"), "asked again once it has answered"
    await worker.stop()
    await asyncio.wait_for(run, 60)


async def failing():
    raise EngineError("a kernel broke")


async def test_an_engine_that_hangs_during_an_evaluation_ends_its_worker():
    engine = FakeEngine(seconds=1e6)
    worker = make_worker(engine)
    await worker.load(publication(0))
    run = asyncio.create_task(worker.run())
    evaluating = asyncio.create_task(worker.evaluate(prompts(2), terms(num_samples=1)))
    await soon(lambda: engine.asked)
    engine.hangs = True
    with pytest.raises(EngineError, match="has not answered"):
        await asyncio.wait_for(run, 300)
    evaluating.cancel()


async def test_a_worker_says_what_it_is_at():
    engine = FakeEngine()
    worker = make_worker(engine)
    assert await worker.says() == "last token 3 s ago"
    worker._scorer.awaited = lambda: (7, 31.4)
    assert await worker.says() == "last token 3 s ago, 7 verdicts awaited for 31 s"
    engine.quiet_s = lambda: float("inf")
    assert (await worker.says()).startswith("no token yet")

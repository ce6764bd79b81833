"""Workers that die, hang, find no place and come back, with processes that are told what to do."""

import asyncio
import dataclasses
import sys

import pytest

from deploy.processes.base import Process
from deploy.run import workers
from deploy.run.pulse import BEAT_S, SILENCE_S, Pulse
from deploy.run.workers import Workers
from oapl.config import RunConfig
from oapl.errors import DeadlineError, DiedError, InputError, OaplError, ProbeError
from oapl.evaluation import Protocol
from oapl.records import EvalAnswers, Lateness, ProbeReport, WorkerId
from tests.support.fakes import publication
from tests.support.sleepers import CountingSource

pytestmark = pytest.mark.leaping


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(workers, "STATS_WAIT_S", 0.05)


class FakeWorker:
    """Collects until it is killed; asserts that it collects under some version."""

    def __init__(self):
        self.version = -1
        self.death = asyncio.get_running_loop().create_future()
        self.collects = self.has_loads = True
        self.is_silent = False
        self.is_stopped = False
        self.engine_hangs = False
        self.probe_fails = False

    async def load(self, weights):
        assert weights.version >= self.version
        if self.is_stopped or self.engine_hangs:
            await asyncio.shield(self.death)
        if self.probe_fails:
            raise ProbeError("engine and learner disagree")
        self.version = weights.version
        return ProbeReport(version=weights.version, ratio=1.0, max_difference=0.0, num_tokens=1)

    async def run(self, has_own_weights=False):
        assert self.version >= 0 or not self.collects, "collects before the first load"
        await self.death

    async def stats(self):
        if self.is_silent:
            await self.death
        return {"rollout/tokens": 5.0}

    async def stop(self):
        if not self.death.done():
            self.death.set_result(None)

    def die(self):
        if not self.death.done():
            self.death.set_exception(RuntimeError("killed by signal 9"))


class FakeProcesses:
    """Starts fake workers; `refusals` are raised by the first starts, per index."""

    def __init__(self, refusals=()):
        self.refusals = {index: list(errors) for index, errors in dict(refusals).items()}
        self.started = []
        self.steps = []
        self.workers = {}
        self.killed = []

    async def start(self, role, name, *, index, incarnation, **handles):
        assert role == "worker"
        self.started.append(name)
        self.steps.append(handles["step"])
        await asyncio.sleep(0)
        if self.refusals.get(index):
            raise self.refusals[index].pop(0)
        self.workers[name] = FakeWorker()
        self.workers[name].collects = handles["replay"] is not None
        return Process(name, self.workers[name], 0)

    async def kill(self, process):
        self.killed.append(process.name)
        process.handle.die()

    async def ping(self, process):
        if process.handle.is_stopped:
            await asyncio.sleep(3600)

    async def close(self):
        pass


class FakeReplay:
    def __init__(self):
        self.released = []

    async def release(self, worker):
        self.released.append(str(worker))


class Bench:
    def __init__(
        self,
        num_engines=2,
        max_restarts=2,
        refusals=(),
        forgiven_after_s=0.0,
        timeout_s=2,
        step=0,
        **aside,
    ):
        config = RunConfig(
            rollout={"num_engines": num_engines},
            sync={"timeout_s": timeout_s},
            cluster={"start_timeout_s": 60},
            restarts={
                "worker": {
                    "max_restarts": max_restarts,
                    "forgiven_after_s": forgiven_after_s,
                    "longest_pause_s": 0.01,
                }
            },
        )
        self.notes, self.replay = [], FakeReplay()
        self.processes = FakeProcesses(refusals)
        self.pulse = Pulse(self.processes, self.notes.append, start_s=60)
        self.workers = Workers(
            config,
            processes=self.processes,
            pulse=self.pulse,
            replay=None if aside else self.replay,
            scorers=(),
            note=self.notes.append,
            step=step,
            **aside,
        )
        self.workers.start()

    async def until(self, condition):
        async with asyncio.timeout(2):
            while not condition():
                await asyncio.sleep(0.001)

    def holds(self, name, version):
        worker = self.processes.workers.get(name)
        return worker is not None and worker.version == version


async def test_a_worker_that_dies_is_replaced_by_one_with_the_current_weights():
    bench = Bench()
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-0.0", 0) and bench.holds("worker-1.0", 0))
    bench.processes.workers["worker-0.0"].die()
    await bench.workers.load(publication(4))
    await bench.until(lambda: bench.holds("worker-0.1", 4) and bench.holds("worker-1.0", 4))
    assert bench.replay.released == ["worker 0.0"]
    assert (await bench.workers.stats())["faults/worker_restarts"] == 1
    assert not bench.workers.failed.done()
    await bench.workers.stop()


async def test_every_incarnation_is_told_the_step_that_the_run_went_on_from():
    """Its engine's seeds are made of that, of its place and of its incarnation."""
    bench = Bench(step=40)
    await bench.workers.load(publication(40))
    await bench.until(lambda: bench.holds("worker-0.0", 40) and bench.holds("worker-1.0", 40))
    bench.processes.workers["worker-0.0"].die()
    await bench.until(lambda: bench.holds("worker-0.1", 40))
    assert bench.processes.steps == [40] * 3
    await bench.workers.stop()


async def test_a_worker_without_a_place_is_tried_for_as_long_as_it_takes():
    absent = [DeadlineError("waited 300 s for worker-1.0 to start")] * 9
    bench = Bench(max_restarts=2, refusals={1: absent})
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-1.9", 0))
    assert not bench.workers.failed.done(), "more tries than max_restarts: no worker died"
    assert sum("found no place" in note for note in bench.notes) == 9
    await bench.workers.stop()


async def test_a_place_whose_worker_dies_again_and_again_is_given_up_and_the_others_go_on():
    bench = Bench(max_restarts=2, refusals={1: [RuntimeError("out of memory")] * 9})
    await bench.workers.load(publication(0))
    await bench.until(lambda: any("not started again" in note for note in bench.notes))
    assert [n for n in bench.processes.started if n.startswith("worker-1")] == [
        "worker-1.0",
        "worker-1.1",
        "worker-1.2",
    ]
    assert not bench.workers.failed.done()
    await bench.workers.load(publication(4))
    await bench.workers.stop()


async def test_the_run_fails_when_every_place_is_given_up():
    refusals = {index: [RuntimeError("out of memory")] * 9 for index in (0, 1)}
    bench = Bench(max_restarts=1, refusals=refusals)
    last = r"the last one of RuntimeError: out of memory; see"
    with pytest.raises(
        OaplError, match=rf"more than 1 times \(restarts.worker.max_restarts\), {last}"
    ):
        await asyncio.wait_for(bench.workers.failed, 2)
    await bench.workers.close()


async def test_good_work_gives_a_place_all_its_restarts_again():
    bench = Bench(num_engines=1, max_restarts=1, forgiven_after_s=1e-9)
    await bench.workers.load(publication(0))
    for incarnation in range(6):
        name = f"worker-0.{incarnation}"
        await bench.until(lambda name=name: bench.holds(name, 0))
        bench.processes.workers[name].die()
    await bench.until(lambda: bench.holds("worker-0.6", 0))
    assert not bench.workers.failed.done()
    await bench.workers.stop()


async def test_what_a_user_wrote_ends_the_run_at_once_but_not_what_a_returning_node_lacks():
    bench = Bench(refusals={0: [InputError("no such model")]})
    with pytest.raises(InputError, match="no such model"):
        await asyncio.wait_for(bench.workers.failed, 2)
    await bench.workers.close()

    late = [DeadlineError("no node"), InputError("no such model here")]
    bench = Bench(refusals={1: late})
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-1.2", 0))
    assert not bench.workers.failed.done()
    await bench.workers.stop()


async def test_an_engine_that_disagrees_with_the_learner_stops_the_run():
    bench = Bench()
    await bench.until(lambda: len(bench.processes.workers) == 2)
    bench.processes.workers["worker-1.0"].probe_fails = True
    await bench.workers.load(publication(0))
    with pytest.raises(ProbeError):
        await asyncio.wait_for(bench.workers.failed, 2)
    await bench.workers.close()


async def test_an_engine_that_disagrees_later_stops_the_run_though_others_agree():
    bench = Bench()
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-0.0", 0) and bench.holds("worker-1.0", 0))
    bench.processes.workers["worker-1.0"].probe_fails = True
    await bench.workers.load(publication(4))
    with pytest.raises(ProbeError):
        await asyncio.wait_for(bench.workers.failed, 2)
    await bench.workers.close()


@pytest.fixture
async def evaluating(monkeypatch):
    """Two workers that only evaluate."""
    bench = Examining(monkeypatch, num_engines=2, places=None)
    await bench.workers.close()  # the places that it holds of itself
    bench.workers._stopping = False
    bench.workers._members.clear()
    await bench.workers.start_idle()
    for name in bench.processes.started[-2:]:
        bench.processes.workers[name].has_loads = False
    bench.processes.killed.clear()
    yield bench
    await bench.workers.close()


async def test_a_worker_that_only_evaluates_is_ended_when_it_answers_no_more(evaluating):
    name = evaluating.processes.started[-1]
    evaluating.processes.workers[name].is_stopped = True
    await asyncio.sleep(SILENCE_S + 2 * BEAT_S)
    assert name in evaluating.processes.killed
    assert any("not started again" in note for note in evaluating.notes)


async def test_an_evaluation_goes_on_with_the_workers_that_are_left(evaluating):
    asking = asyncio.create_task(evaluating.examine(40))
    await asyncio.sleep(0.5)
    evaluating.processes.workers[evaluating.processes.started[-1]].die()
    assert await asking == [prompt.id for prompt in problems(40)]


async def test_an_evaluation_without_any_worker_left_ends_at_once(evaluating):
    """Such as one whose engine hangs, which its worker ends of."""
    asking = asyncio.create_task(evaluating.examine())
    await asyncio.sleep(0.5)
    for name in evaluating.processes.started[-2:]:
        evaluating.processes.workers[name].die()
    began = now()
    with pytest.raises(DiedError, match="no engine is left"):
        await asking
    assert now() - began < 5


async def test_a_worker_that_dies_while_it_is_asked_for_counters_costs_nobody_the_others():
    bench = Bench()
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-0.0", 0) and bench.holds("worker-1.0", 0))

    async def never():
        await asyncio.sleep(3600)

    bench.processes.workers["worker-0.0"].stats = never
    asking = asyncio.create_task(bench.workers.stats())
    await asyncio.sleep(0.001)
    bench.processes.workers["worker-0.0"].die()
    assert (await asyncio.wait_for(asking, 2))["rollout/tokens"] == 5
    await bench.workers.close()


async def test_a_silent_worker_delays_nobody_is_counted_late_and_killed_in_the_end(monkeypatch):
    monkeypatch.setattr(workers.time, "monotonic", asyncio.get_running_loop().time)
    bench = Bench()
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-0.0", 0) and bench.holds("worker-1.0", 0))
    bench.processes.workers["worker-0.0"].is_silent = True
    assert (await asyncio.wait_for(bench.workers.stats(), 1))["rollout/tokens"] == 5
    assert bench.processes.killed == []
    monkeypatch.setattr(workers, "STATS_TIMEOUT_S", 0.01)
    await bench.workers.stats()
    assert bench.processes.killed[0] == "worker-0.0"
    await bench.until(lambda: bench.holds("worker-0.1", 0))
    assert (await bench.workers.stats())["rollout/tokens"] == 10
    await bench.workers.stop()


def now():
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("timeout_s", [2, 30, 600], ids=lambda seconds: f"{seconds} s")
async def test_the_only_worker_stopped_between_loads_is_replaced_and_the_learner_waits_for_it(
    timeout_s,
):
    """Whether the learner's own deadline is shorter than a silence, as long, or longer."""
    bench = Bench(num_engines=1, timeout_s=timeout_s)
    await bench.workers.load(publication(0))
    bench.processes.workers["worker-0.0"].is_stopped = True
    stopped_at = now()

    async def take(seconds):
        async with asyncio.timeout(60 + seconds):
            try:
                await asyncio.wait_for(bench_has(bench, "worker-0.1", 0), seconds)
            except TimeoutError:
                raise DeadlineError(f"the learner waited {seconds} s for 4 groups") from None
        return "groups"

    assert await bench.workers.outlast(take, timeout_s) == "groups"
    assert now() - stopped_at <= SILENCE_S + BEAT_S + 5
    assert bench.processes.killed[0] == "worker-0.0"
    assert "worker 0.0 has not answered for 30 s; killing it" in bench.notes
    assert not bench.workers.failed.done()
    await bench.workers.stop()


async def bench_has(bench, name, version):
    while not bench.holds(name, version):
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("timeout_s", [2, 30, 600], ids=lambda seconds: f"{seconds} s")
async def test_the_only_worker_stopped_before_a_load_is_replaced_and_the_load_goes_on(timeout_s):
    bench = Bench(num_engines=1, timeout_s=timeout_s)
    await bench.workers.load(publication(0))
    bench.processes.workers["worker-0.0"].is_stopped = True
    report = await bench.workers.load(publication(4))
    assert report.version == 4
    assert bench.holds("worker-0.1", 4)
    await bench.workers.stop()


@pytest.mark.parametrize("timeout_s", [2, 30, 600], ids=lambda seconds: f"{seconds} s")
async def test_the_only_worker_whose_engine_hangs_in_a_load_is_replaced_and_the_load_goes_on(
    timeout_s,
):
    """The worker itself answers whoever asks: its own deadline must be the first to end."""
    bench = Bench(num_engines=1, timeout_s=timeout_s)
    await bench.workers.load(publication(0))
    await asyncio.sleep(10)
    bench.processes.workers["worker-0.0"].engine_hangs = True
    began = now()
    report = await bench.workers.load(publication(4))
    assert report.version == 4
    assert bench.holds("worker-0.1", 4)
    assert now() - began < timeout_s + 10
    assert any("worker 0.0 did not load: DeadlineError" in note for note in bench.notes)
    await bench.workers.stop()


@pytest.mark.parametrize("timeout_s", [2, 30, 600], ids=lambda seconds: f"{seconds} s")
async def test_the_learner_waits_for_its_batch_until_an_engine_that_hangs_is_known_to(timeout_s):
    """The worker answers whoever asks, and ends when its engine has been silent for too long."""
    bench = Bench(num_engines=1, timeout_s=timeout_s)
    await bench.workers.load(publication(0))
    silence_s = RunConfig().rollout.engine_silence_s
    asyncio.get_running_loop().call_later(silence_s, bench.processes.workers["worker-0.0"].die)

    async def take(seconds):
        try:
            await asyncio.wait_for(bench_has(bench, "worker-0.1", 0), seconds)
        except TimeoutError:
            raise DeadlineError(f"the learner waited {seconds} s for 4 groups") from None
        return "groups"

    assert await bench.workers.await_batch(take, timeout_s) == "groups"
    assert not bench.workers.failed.done()
    await bench.workers.stop()


async def test_a_worker_that_takes_long_to_start_is_waited_for_as_long_as_it_may_take():
    bench = Bench(num_engines=1, timeout_s=2)

    async def start(*arguments, **named):
        await asyncio.sleep(50)
        return await FakeProcesses.start(bench.processes, *arguments, **named)

    bench.processes.start = start
    assert (await bench.workers.load(publication(0))).version == 0
    await bench.workers.stop()


async def test_a_wait_that_nobody_s_absence_explains_ends_at_its_deadline():
    bench = Bench(num_engines=1)
    await bench.workers.load(publication(0))
    await asyncio.sleep(10)
    began, waits = now(), []

    async def never(seconds):
        waits.append(seconds)
        await asyncio.sleep(seconds)
        raise DeadlineError("waited 2 s for 4 groups")

    with pytest.raises(DeadlineError, match=r"^waited 2 s for 4 groups$"):
        await bench.workers.outlast(never, 2)
    assert (waits, now() - began) == ([2], 2)
    await bench.workers.stop()


async def test_a_place_that_stays_empty_is_not_waited_for_for_ever():
    bench = Bench(num_engines=1)

    async def start(*arguments, **named):
        await asyncio.sleep(60)
        raise DeadlineError("waited 60 s for worker-0 to start")

    bench.processes.start = start
    with pytest.raises(DeadlineError, match="one of 1 workers to load 0"):
        await bench.workers.load(publication(0))
    assert now() < 2 * (2 + workers.HEAD_START_S) + 30 + 60 + 2
    await bench.workers.close()


class Late:
    """A buffer of which the learner awaits three groups; of the workers that have them one answers,
    one does not, and one is gone."""

    def __init__(self):
        holders = {WorkerId(index=0): 2, WorkerId(index=1): 1, WorkerId(index=1, incarnation=7): 1}
        self.late = Lateness(missing=3, versions=(120,), holders=holders, queued=0, needed=4)

    async def lateness(self):
        return self.late

    async def release(self, worker):
        pass


async def test_who_is_late_is_told_with_what_they_say():
    bench = Bench()
    await bench.workers.load(publication(0))
    await bench.until(lambda: bench.holds("worker-0.0", 0) and bench.holds("worker-1.0", 0))
    bench.workers._replay = replay = Late()

    async def says():
        return "last token 38 s ago"

    async def never():
        await asyncio.sleep(3600)

    bench.processes.workers["worker-0.0"].says = says
    bench.processes.workers["worker-1.0"].says = never
    assert await bench.workers.lateness() == (
        "3 groups of version 120; worker 0.0 has 2 of them, last token 38 s ago; "
        "worker 1.0 has 1 of them, and does not answer; worker 1.7 has 1 of them, and is gone"
    )
    replay.late = dataclasses.replace(replay.late, holders={})
    assert (await bench.workers.lateness()).endswith(
        "no worker has any, 4 are still to be handed out"
    )
    await bench.workers.stop()


# --- evaluations


class Examined(FakeWorker):
    """Answers each problem in a second, until it is killed."""

    async def evaluate(self, prompts, terms):
        assert self.version >= 0 or not self.has_loads, "evaluates before the first load"
        answering = asyncio.ensure_future(asyncio.sleep(1.0))
        await asyncio.wait({answering, self.death}, return_when=asyncio.FIRST_COMPLETED)
        if self.death.done():
            raise DiedError("killed by signal 9")
        return [EvalAnswers(prompt=one, rollouts=(), judgements=()) for one in prompts]


class Examining(Bench):
    """Workers of the last places, set aside where asked."""

    def __init__(self, monkeypatch, num_engines=2, **aside):
        monkeypatch.setattr(sys.modules[__name__], "FakeWorker", Examined)
        super().__init__(num_engines=num_engines, **aside)

    async def examine(self, count=4):
        made = await self.workers.evaluate(problems(count), Protocol(num_samples=16, greedy=False))
        return [answers.prompt.id for answers in made]


def problems(count):
    source = CountingSource()
    return [source.next() for _ in range(count)]


async def test_an_evaluation_outlives_the_death_of_its_only_worker(monkeypatch):
    bench = Examining(monkeypatch, num_engines=1)
    await bench.workers.load(publication(0))
    asking = asyncio.create_task(bench.examine())
    await asyncio.sleep(0.5)
    bench.processes.workers["worker-0.0"].die()
    assert await asking == [prompt.id for prompt in problems(4)]
    assert any("evaluation interrupted" in note for note in bench.notes)
    await bench.workers.stop()


async def test_a_worker_whose_death_nobody_has_noticed_yet_is_asked_once(monkeypatch):
    bench = Examining(monkeypatch, num_engines=1)
    await bench.workers.load(publication(0))
    asked = []

    async def gone(*arguments):
        asked.append(now())
        raise DiedError("the actor is dead")

    worker = bench.processes.workers["worker-0.0"]
    worker.evaluate = gone
    asyncio.get_running_loop().call_later(1.0, worker.die)
    assert await bench.examine() == [prompt.id for prompt in problems(4)]
    assert len(set(asked)) == 1, "not again, before it is replaced"
    await bench.workers.stop()


async def test_workers_set_aside_have_places_of_their_own_and_are_loaded_alone(monkeypatch):
    bench = Examining(monkeypatch, num_engines=3, places=range(2, 3), is_aside=True)
    await bench.workers.load(publication(5))
    assert bench.holds("worker-2.0", 5)
    assert await bench.examine() == [prompt.id for prompt in problems(4)]
    counters = await bench.workers.stats()
    assert counters["engine/evaluation_tokens"] == 5.0
    assert "rollout/tokens" not in counters, "an evaluation's tokens are no rollouts"
    await bench.workers.stop()


async def test_a_worker_set_aside_that_is_started_again_waits_for_the_next_publication(monkeypatch):
    """The one before may be gone: who loaded it in vain would die again and again."""
    bench = Examining(monkeypatch, num_engines=2, places=range(1, 2), is_aside=True)
    await bench.workers.load(publication(5))
    asking = asyncio.create_task(bench.examine())
    await asyncio.sleep(0.5)
    bench.processes.workers["worker-1.0"].die()
    with pytest.raises(DiedError, match=r"no engine is left that holds the weights \(RuntimeError"):
        await asking
    await bench.until(lambda: "worker-1.1" in bench.processes.workers)
    await asyncio.sleep(5)
    assert bench.processes.workers["worker-1.1"].version == -1
    await bench.workers.load(publication(9))
    assert bench.holds("worker-1.1", 9)
    assert await bench.examine() == [prompt.id for prompt in problems(4)]
    await bench.workers.stop()


async def test_of_two_workers_set_aside_one_may_die_in_an_evaluation(monkeypatch):
    bench = Examining(monkeypatch, num_engines=3, places=range(1, 3), is_aside=True)
    await bench.workers.load(publication(5))
    await bench.until(lambda: bench.holds("worker-1.0", 5) and bench.holds("worker-2.0", 5))
    asking = asyncio.create_task(bench.examine(300))
    await asyncio.sleep(0.5)
    bench.processes.workers["worker-1.0"].die()
    assert len(await asking) == 300
    await bench.until(lambda: bench.holds("worker-1.1", 5))
    await bench.workers.stop()

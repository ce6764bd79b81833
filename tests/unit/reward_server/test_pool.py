"""Real processes, one misdeed a test: rewards of the others stay right, times stay bounded."""

import asyncio
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import pytest_asyncio

from deploy.run.reward_servers import merged
from oapl.tracking.names import describe
from reward_server.pool.forks import Forks
from reward_server.pool.loading import Loading
from reward_server.server import RewardServer
from tests.chaos import rewards as chaos
from tests.support.judging import HOSTILE, deed, is_gone, server

FINE = [deed("nothing", text=str(i)) for i in range(6)]
DEADLINE_S = 0.6
"""Of an answer. Those of `FINE` take microseconds: a machine that stands still is no hang."""
ENOUGH_S = 60.0
"""For what ends by itself, on a machine however slow."""


def hostile(**reward):
    return server({HOSTILE: 1.0}, **{"deadline_s": DEADLINE_S, "on_failure": -3.0, **reward})


async def warm(running: RewardServer) -> None:
    """Both workers started: what follows is timed without the fork server's start."""
    await running.score(FINE)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared():
    async with hostile() as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("do", "kind"),
    [
        ("loop", "timeout"),
        ("c_hang", "timeout"),
        ("no_signals", "timeout"),
        ("segfault", "runtime_error"),
        ("exit", "runtime_error"),
        ("sys_exit", "error"),
        ("kill", "resource_limit"),
        ("garbage", "sandbox_violation"),
        ("memory", "resource_limit"),
        ("raise", "error"),
        ("nan", "error"),
    ],
)
async def test_a_misdeed_costs_its_own_reward_and_nobody_elses(shared, do, kind):
    await warm(shared)
    await shared.stats()
    answers = await shared.score([*FINE[:3], deed(do), *FINE[3:]])
    again = await shared.score(FINE)
    metrics = await shared.stats()
    bad = answers.pop(3)
    assert bad.verdicts[HOSTILE].kind == kind
    assert bad.reward == -3.0
    assert bad.failure is None
    assert [answer.reward for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert [answer.reward for answer in again] == [0, 1, 2, 3, 4, 5]
    assert metrics[f"faults/reward_{kind}"] == 1


async def test_many_hangs_are_each_killed_at_their_own_deadline():
    async with hostile(workers=2) as running:
        await warm(running)
        answers = await running.score([deed("loop"), deed("loop"), *FINE, deed("loop")])
    hung = [a.verdicts[HOSTILE].detail for a in answers if a.verdicts[HOSTILE].kind == "timeout"]
    assert hung == [f"killed after {DEADLINE_S:g} s"] * 3
    assert [a.reward for a in answers[2:8]] == [0, 1, 2, 3, 4, 5]


async def test_a_hang_that_is_the_first_of_its_process_takes_the_whole_grace_once_at_most():
    options = {HOSTILE: {"first_s": ENOUGH_S}}
    async with server({HOSTILE: 1.0}, options, workers=1, deadline_s=DEADLINE_S) as running:
        await running.score([deed("nothing")])
        began = time.monotonic()
        answers = await running.score([deed("loop")] * 3)
        took_s = time.monotonic() - began
    assert [answer.verdicts[HOSTILE].kind for answer in answers] == ["timeout"] * 3
    assert took_s < ENOUGH_S / 2


def test_a_first_answer_has_what_the_slowest_one_took_four_times_over():
    loading = Loading(first_s=60.0, deadline_s=10.0)
    assert loading.limit_s == 60.0
    loading.took(2.0)
    loading.took(1.0)
    assert loading.limit_s == 18.0
    loading.took(40.0)
    assert loading.limit_s == 60.0
    assert Loading(first_s=0.0, deadline_s=10.0).limit_s == 10.0


CHILD = "__import__('subprocess').Popen(['sleep', '1000']).pid"


@pytest.mark.parametrize("ends", ["a worker", "the fork server", "the server"])
async def test_what_a_worker_has_started_ends_with_it(ends):
    async with hostile(workers=1) as running:
        (answer,) = await running.score([deed("eval", CHILD)])
        child = int(answer.verdicts[HOSTILE].detail)
        fork_server, worker = running.processes()
        assert not is_gone(child, 0.0)
        if ends == "the server":
            await running.close()
        else:
            os.kill(worker if ends == "a worker" else fork_server, signal.SIGKILL)
        assert await asyncio.to_thread(is_gone, child, ENOUGH_S)
        assert is_gone(worker, ENOUGH_S)
        assert is_gone(fork_server, 0.0) is (ends != "a worker")


async def test_a_worker_killed_from_outside_is_replaced_and_nobody_is_blamed():
    async with hostile() as running:
        await warm(running)
        for pid in running.processes()[1:]:
            os.kill(pid, signal.SIGKILL)
        answers = await running.score(FINE)
        waiting = asyncio.create_task(running.score([deed("loop")]))
        await asyncio.sleep(0.1)
        busy = running.processes()[1]
        for pid in running.processes()[1:]:
            os.kill(pid, signal.SIGKILL)
        hung = (await waiting)[0]
    assert [answer.reward for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert hung.verdicts[HOSTILE].kind == "timeout"  # tried again, and judged as what it is
    assert is_gone(busy, ENOUGH_S)


async def test_a_killed_fork_server_is_restarted_and_its_workers_die_with_it():
    async with hostile(workers=1) as running:
        await warm(running)
        fork_server, worker = running.processes()
        os.kill(fork_server, signal.SIGKILL)
        assert is_gone(worker, ENOUGH_S)
        answers = await running.score(FINE)
        metrics = await running.stats()
        assert running.processes()[0] != fork_server
    assert [answer.reward for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert metrics["faults/reward_fork_server_restarts"] == 1


async def test_a_fork_server_killed_under_a_running_item_does_not_cost_the_item_its_verdict():
    async with hostile(workers=1, deadline_s=ENOUGH_S) as running:
        await warm(running)
        waiting = asyncio.create_task(
            running.score([deed("eval", "__import__('time').sleep(0.5)"), *FINE])
        )
        await asyncio.sleep(0.1)
        os.kill(running.processes()[0], signal.SIGKILL)
        answers = await waiting
    assert [answer.failure for answer in answers] == [None] * 7


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("start", "why"), [("raise", "nonsense"), ("exit", "code 7")])
async def test_a_worker_that_cannot_start_is_our_failure_with_its_cause(start, why):
    async with server({HOSTILE: 1.0}, {HOSTILE: {"start": start}}) as running:
        answers = await running.score(FINE)
        metrics = await running.stats()
    assert all(why in (answer.failure or "") for answer in answers)
    assert all(math.isnan(answer.reward) for answer in answers)
    assert metrics["faults/reward_failures"] == len(FINE)


async def test_a_verifier_nobody_configured_is_a_failure_that_names_it():
    async with server({"math": 1.0}) as running:
        (answer,) = await running.score(FINE[:1])
    assert "hostile" in (answer.failure or "")


async def test_workers_are_replaced_after_their_share_of_items(monkeypatch):
    monkeypatch.setattr("reward_server.pool.slot.MAX_JUDGED", 10)
    async with hostile(workers=1) as running:
        pids = set()
        for _ in range(5):
            answers = await running.score([deed("pid")] * 6)
            pids |= {answer.verdicts[HOSTILE].detail for answer in answers}
    assert len(pids) == 3


async def test_closing_ends_every_process_and_fails_what_waits():
    async with hostile(deadline_s=ENOUGH_S) as running:
        await warm(running)
        waiting = asyncio.create_task(running.score([deed("loop"), deed("loop"), *FINE]))
        await asyncio.sleep(0.1)
        pids = running.processes()
        await running.close()
        answers = await waiting
    assert all(is_gone(pid, ENOUGH_S) for pid in pids)
    assert all("closed" in (answer.failure or "") for answer in answers[:2])
    assert all(answer.failure or answer.verdicts for answer in answers)


def test_kill_9_of_the_server_leaves_no_process_behind():
    program = (
        "import asyncio\n"
        "from oapl import RunConfig\n"
        "from reward_server.server import build\n"
        "from tests.support.judging import deed, HOSTILE\n"
        "async def main():\n"
        "    running = build(RunConfig(reward={'verifiers': {HOSTILE: 1.0}, 'deadline_s': 60}))\n"
        "    await running.score([deed('nothing')] * 4)\n"
        "    hung = asyncio.create_task(running.score([deed('no_signals'), deed('nothing')]))\n"
        "    await asyncio.sleep(0.2)\n"
        "    print(*running.processes(), flush=True)\n"
        "    await hung\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        pids = [int(pid) for pid in child.stdout.readline().split()]
        child.kill()
        child.wait(timeout=ENOUGH_S)
    assert len(pids) >= 2
    assert all(is_gone(pid, ENOUGH_S) for pid in pids)


async def test_the_judging_processes_import_no_heavy_library():
    payload = (
        "[name for name in ('torch', 'ray', 'vllm', 'deepspeed', 'transformers')"
        " if name in __import__('sys').modules]"
    )
    verifiers = {HOSTILE: 1.0, "math": 1.0, "reasoning_gym": 1.0}
    async with server(verifiers, workers=1) as running:
        (answer,) = await running.score([deed("eval", payload)])
    assert answer.verdicts[HOSTILE].detail == "[]"


def test_it_runs_on_rays_event_loop_too():
    uvloop = pytest.importorskip("uvloop")

    async def judged():
        async with hostile() as running:
            await warm(running)
            return await running.score([FINE[1], deed("loop"), deed("segfault"), FINE[2]])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(judged())
    kinds = [answer.verdicts[HOSTILE].kind for answer in answers]
    assert kinds == ["accepted", "timeout", "runtime_error", "accepted"]


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_an_answer_that_came_while_the_server_was_busy_is_not_late(library, tmp_path):
    loops, end = pytest.importorskip(library), tmp_path / "end"

    async def judged():
        async with hostile() as running:
            await warm(running)
            waiting = asyncio.create_task(running.score([deed("wait", str(end), text="1")]))
            while not end.with_suffix(".begun").exists():
                await asyncio.sleep(0.005)
            end.touch()
            time.sleep(1.5 * DEADLINE_S)  # noqa: ASYNC251 - the loop is to be busy
            return await waiting

    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        (answer,) = runner.run(judged())
    assert answer.verdicts[HOSTILE].kind == "accepted"


async def test_a_verifiers_own_limits_go_before_the_runs():
    own = {HOSTILE: {"deadline_s": DEADLINE_S, "workers": 3}}
    async with server({HOSTILE: 1.0}, own, workers=1, deadline_s=ENOUGH_S) as running:
        (hung, *_) = await running.score([deed("loop"), *FINE])
        await running.score([deed("eval", "__import__('time').sleep(0.1)")] * 3)
        assert len(running.processes()) == 1 + 3
    assert hung.verdicts[HOSTILE].kind == "timeout"
    assert hung.verdicts[HOSTILE].seconds == DEADLINE_S


async def test_parts_of_a_reward_come_with_the_verdict_and_are_reported_as_means():
    async with hostile() as running:
        (one, _) = await running.score([deed("parts", "{'kept': 1}"), deed("parts", "{'kept': 0}")])
        metrics = await running.stats()
    assert one.verdicts[HOSTILE].parts == {"kept": 1.0}
    assert metrics[f"reward/{HOSTILE}/kept"] == 0.5


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "parts",
    ["{'a/b': 1}", "{'x' * 99: 1}", "{'nan': float('nan')}", "{str(i): 1 for i in range(33)}"],
)
async def test_parts_that_are_no_plain_numbers_under_plain_names_are_an_error(shared, parts):
    (answer,) = await shared.score([deed("parts", parts)])
    assert answer.verdicts[HOSTILE].kind == "error"
    assert "unusable parts" in answer.verdicts[HOSTILE].detail


@pytest.mark.asyncio(loop_scope="module")
async def test_a_kind_that_nobody_knows_is_an_error(shared):
    (answer,) = await shared.score([deed("kind", "splendid")])
    assert answer.verdicts[HOSTILE].kind == "error"
    assert "splendid" in answer.verdicts[HOSTILE].detail


@pytest.mark.asyncio(loop_scope="module")
async def test_answers_that_are_malformed_are_counted_apart(shared):
    await shared.stats()
    await shared.score([deed("kind", "malformed"), *FINE[:3]])
    metrics = await shared.stats()
    assert metrics[f"reward/{HOSTILE}/malformed_rate"] == 0.25
    assert metrics[f"reward/{HOSTILE}/error_rate"] == 0


async def test_kills_of_workers_and_fork_servers_under_load_lose_no_item():
    async with hostile(deadline_s=chaos.DEADLINE_S, on_failure=chaos.ON_FAILURE) as running:
        await warm(running)

        async def victims():
            fork_server, *workers = running.processes()
            return {"fork_server": [fork_server], "worker": workers}

        kills = ["worker", "fork_server", "worker", "worker"]
        wrong, made = await chaos.kill_under_load(
            running.score, victims, items=400, kills=kills, seconds=0.01
        )
        metrics = await running.stats()
    assert wrong == []
    assert made == {"worker": 3, "fork_server": 1}
    assert metrics["faults/reward_lost_workers"] >= 3
    assert metrics["faults/reward_fork_server_restarts"] == 1


async def test_an_answer_under_which_two_workers_died_is_to_blame_and_its_neighbours_are_not():
    async with hostile(workers=1) as running:
        await warm(running)
        answers = await running.score([*FINE[:2], deed("segfault"), *FINE[2:]])
        metrics = await running.stats()
    blamed = answers.pop(2).verdicts[HOSTILE]
    assert (blamed.kind, blamed.detail) == ("runtime_error", "worker ended twice, by SIGSEGV")
    assert [answer.reward for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert metrics["faults/reward_lost_workers"] == 2


async def test_a_full_queue_makes_callers_wait_and_loses_nothing():
    async with hostile(workers=1, max_waiting=8) as running:
        await warm(running)
        calls = [[deed("slow", "0.001", text=str(i + j)) for j in range(30)] for i in range(4)]
        answers = await asyncio.gather(*map(running.score, calls))
        metrics = await running.stats()
    assert [[a.reward for a in call] for call in answers] == [
        [float(i + j) for j in range(30)] for i in range(4)
    ]
    assert metrics[f"reward/{HOSTILE}/queue_length"] == 8


async def test_a_response_that_found_no_worker_in_time_is_our_failure_and_says_what_to_raise():
    async with hostile(workers=1, max_waiting=2, max_wait_s=0.6, deadline_s=1.2) as running:
        await warm(running)  # the fork server's start takes longer than they would wait
        await running.stats()
        answers = await running.score([deed("loop"), *FINE])
        metrics = await running.stats()
    assert answers[0].verdicts[HOSTILE].kind == "timeout"
    late = [answer.failure for answer in answers if answer.failure]
    assert late
    assert all("reward.max_wait_s" in failure for failure in late)
    assert metrics[f"reward/{HOSTILE}/failures"] == len(late)


async def test_a_slow_answer_does_not_hold_up_those_that_were_sent_with_it(monkeypatch, tmp_path):
    """It ends only when the others have their verdicts."""
    monkeypatch.setattr("reward_server.pool.slot.STALL_S", 0.1)
    async with hostile(workers=2, deadline_s=ENOUGH_S) as running:
        await warm(running)
        await running.score([deed("nothing")] * 100)  # it has learnt that they are quick
        waits = deed("wait", str(tmp_path / "end"))
        slow = asyncio.create_task(running.score([waits, *[deed("nothing")] * 60]))
        await asyncio.sleep(0.01)
        await running.score(FINE)
        (tmp_path / "end").touch()
        assert [answer.reward for answer in await slow] == [1.0] * 61


async def test_a_worker_that_leaks_is_replaced(monkeypatch):
    monkeypatch.setattr("reward_server.pool.slot.MAX_GROWTH_BYTES", 64 * 2**20)
    monkeypatch.setattr("reward_server.pool.slot.LOOK_S", 0.0)
    async with hostile(workers=1) as running:
        pids = set()
        for _ in range(12):
            answers = await running.score([deed("leak", str(16 * 2**20)), deed("pid")])
            pids.add(answers[1].verdicts[HOSTILE].detail)
        metrics = await running.stats()
    assert 2 <= len(pids) <= 4
    assert metrics["faults/reward_leaks"] == len(pids) - 1


@pytest.mark.asyncio(loop_scope="module")
async def test_latencies_and_malformed_answers_are_reported_by_verifier_and_source(shared):
    await shared.stats()
    prompt, rollout = deed("kind", "malformed")
    await shared.score([(dataclasses.replace(prompt, source="a/b"), rollout), FINE[1]])
    metrics = await shared.stats()
    assert metrics[f"reward/{HOSTILE}/malformed_rate/a_b"] == 1.0
    assert metrics[f"reward/{HOSTILE}/malformed_rate/s"] == 0.0
    assert (
        0 < metrics[f"reward/{HOSTILE}/latency_p50_s"] <= metrics[f"reward/{HOSTILE}/latency_p95_s"]
    )
    assert metrics[f"reward/{HOSTILE}/judged"] == 2
    assert all(describe(name) for name in metrics)


def test_reports_of_several_servers_become_one():
    one = {
        "reward/sandbox_level": 2.0,
        "reward/math/mean": 1.0,
        "reward/math/judged": 3.0,
        "reward/math/latency_p95_s": 0.1,
        "faults/reward_timeout": 1.0,
    }
    other = {
        "reward/sandbox_level": 1.0,
        "reward/math/mean": 0.0,
        "reward/math/judged": 1.0,
        "reward/math/latency_p95_s": 0.4,
        "faults/reward_timeout": 2.0,
    }
    assert merged([one, other, {"reward/math/queue_length": 7.0}]) == {
        "reward/sandbox_level": 1.0,
        "reward/math/mean": 0.75,
        "reward/math/judged": 4.0,
        "reward/math/latency_p95_s": 0.4,
        "faults/reward_timeout": 3.0,
        "reward/math/queue_length": 7.0,
    }


async def test_closing_ends_when_it_comes_together_with_a_new_worker(monkeypatch):
    hear = Forks._hear
    closings = []

    def hear_and_close(forks, message, descriptors):
        hear(forks, message, descriptors)
        if "pid" in message and not closings:
            closings.append(asyncio.ensure_future(running._lanes[HOSTILE].close()))

    monkeypatch.setattr(Forks, "_hear", hear_and_close)
    async with hostile() as running:
        async with asyncio.timeout(ENOUGH_S):
            answers = await running.score(FINE)
            await closings[0]
    assert all("closed" in (answer.failure or "") for answer in answers)

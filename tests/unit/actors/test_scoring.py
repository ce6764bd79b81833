"""BatchedScorer: joins what ends together, spreads, retries, and says when nobody answered."""

import asyncio

import numpy as np
import pytest

from actors import scoring
from actors.scoring import BatchedScorer
from oapl.records import Prompt, Rollout
from oapl.remote.batched_calls import MAX_ITEMS, PACE_S
from tests.support.fakes import FakeServer

pytestmark = pytest.mark.leaping


def task(length=1):
    prompt = Prompt(
        id=f"p{length}",
        text="",
        token_ids=np.zeros(length, np.int32),
        verifiers={},
        reference={},
        source="s",
    )
    rollout = Rollout(
        token_ids=np.zeros(1, np.int32),
        inference_logprobs=np.zeros(1, np.float32),
        finish_reason="stop",
        text="",
        first_version=0,
        last_version=0,
    )
    return prompt, rollout


def scorer(*servers, **options):
    return BatchedScorer(servers, **{"limit_s": 5.0, "restart_s": 0.01, **options})


async def score_apart(batched, count, gap_s=0.0):
    """`count` single rollouts, as `collect` asks; their rewards tell which is which."""

    async def one(index):
        await asyncio.sleep(index * gap_s)
        return (await batched.score([task(index + 1)]))[0]

    return await asyncio.gather(*(one(index) for index in range(count)))


async def test_rollouts_that_end_together_share_a_call_and_get_their_own_answers():
    server = FakeServer()
    judgements = await score_apart(scorer(server), 20)
    assert server.calls == [20]
    assert [judgement.reward for judgement in judgements] == list(range(1, 21))


async def test_rollouts_that_end_apart_do_not_wait_for_each_other():
    server = FakeServer()
    await score_apart(scorer(server), 3, gap_s=2 * PACE_S)
    assert server.calls == [1, 1, 1]


async def test_a_call_has_an_upper_size():
    server = FakeServer()
    await score_apart(scorer(server), MAX_ITEMS + 1)
    assert sorted(server.calls) == [1, MAX_ITEMS]


async def test_several_tasks_keep_their_order():
    judgements = await scorer(FakeServer()).score([task(3), task(1), task(2)])
    assert [judgement.reward for judgement in judgements] == [3, 1, 2]
    assert await scorer(FakeServer()).score([]) == []


async def test_calls_go_to_the_least_busy_server():
    slow, quick = FakeServer(seconds=1.0), FakeServer()
    batched = scorer(slow, quick)
    await score_apart(batched, 5, gap_s=2 * PACE_S)
    assert len(slow.calls) == 1
    assert len(quick.calls) == 4


async def test_a_dead_servers_tasks_go_to_another_at_once():
    dead, alive = FakeServer(failures=100), FakeServer()
    batched = scorer(dead, alive, restart_s=60)
    judgements = await asyncio.wait_for(batched.score([task(1), task(2)]), 5)
    assert [judgement.failure for judgement in judgements] == [None, None]
    assert (dead.calls, alive.calls) == ([2], [2])
    stats = await batched.stats()
    assert stats["faults/reward_calls"] == 1
    assert "faults/reward_tasks" not in stats


async def test_an_only_server_is_asked_again_after_a_pause():
    server = FakeServer(failures=1)
    judgements = await scorer(server, restart_s=0.2).score([task()])
    assert judgements[0].failure is None
    assert asyncio.get_running_loop().time() >= 0.2
    assert server.calls == [1, 1]


@pytest.mark.parametrize("retries", [0, 2])
async def test_after_the_retries_the_failure_is_said_not_a_reward(retries):
    server = FakeServer(failures=100)
    batched = scorer(server, retries=retries)
    (judgement,) = await batched.score([task()])
    assert judgement.failure == (
        f"no reward server answered in {retries + 1} tries; last: ConnectionError: the server died"
    )
    assert judgement.verdicts == {}
    assert len(server.calls) == retries + 1
    assert (await batched.stats())["faults/reward_tasks"] == 1


async def test_a_server_that_hangs_is_given_up():
    batched = scorer(FakeServer(seconds=60), limit_s=0.1, retries=0)
    (judgement,) = await asyncio.wait_for(batched.score([task()]), 5)
    assert (
        "DeadlineError: waited 0.1 s for a reward server to judge 1 rollouts" in judgement.failure
    )


async def test_a_wrong_number_of_judgements_is_a_failure():
    class Forgetful(FakeServer):
        async def score(self, tasks):
            return (await super().score(tasks))[1:]

    (judgement, _) = await scorer(Forgetful(), retries=0).score([task(), task()])
    assert "1 judgements came for 2 rollouts" in judgement.failure


async def test_a_caller_that_left_is_not_scored_for():
    server = FakeServer()
    batched = scorer(server)
    left = asyncio.create_task(batched.score([task(1)]))
    stayed = asyncio.create_task(batched.score([task(2)]))
    await asyncio.sleep(0)
    left.cancel()
    assert (await stayed)[0].reward == 2
    assert server.calls == [1]


def test_no_server_is_an_error():
    with pytest.raises(ValueError, match="at least one reward server"):
        scorer()


async def test_what_waits_for_a_verdict_is_known_with_its_age(monkeypatch):
    monkeypatch.setattr(scoring.time, "monotonic", asyncio.get_running_loop().time)
    batched = scorer(FakeServer(seconds=4.0))
    assert batched.awaited() == (0, 0.0)
    asking = asyncio.create_task(score_apart(batched, 3))
    await asyncio.sleep(2)
    count, oldest_s = batched.awaited()
    assert (count, oldest_s) == (3, pytest.approx(2, abs=0.1))
    await asking
    assert batched.awaited() == (0, 0.0)

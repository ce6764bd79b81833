"""BatchedCalls: few calls, every item its own answer, nobody waits for nothing."""

import asyncio

import pytest

from oapl.remote.batched_calls import PACE_S, BatchedCalls

pytestmark = pytest.mark.leaping


class Server:
    def __init__(self, error=None):
        self.calls, self.error = [], error

    async def __call__(self, items):
        self.calls.append(list(items))
        await asyncio.sleep(0.001)
        if self.error:
            raise self.error
        return [10 * item for item in items]


async def hand_over(calls, items, gap_s=0.0):
    async def one(place, item):
        await asyncio.sleep(place * gap_s)
        return (await calls([item]))[0]

    return await asyncio.gather(
        *(one(place, item) for place, item in enumerate(items)), return_exceptions=True
    )


async def test_items_that_come_fast_share_paced_calls_and_get_their_own_answers():
    server, loop = Server(), asyncio.get_running_loop()
    items = list(range(60))
    assert await hand_over(BatchedCalls(server), items, gap_s=PACE_S / 10) == [
        10 * i for i in items
    ]
    assert [item for call in server.calls for item in call] == items
    assert len(server.calls) <= 2 + loop.time() / PACE_S
    assert server.calls[0] == [0], "the first does not wait for the pace"


async def test_an_item_that_comes_after_a_pause_leaves_at_once():
    calls = BatchedCalls(Server())
    await calls([1])
    await asyncio.sleep(PACE_S)
    started = asyncio.get_running_loop().time()
    await calls([2])
    assert asyncio.get_running_loop().time() - started < PACE_S / 2


async def test_an_error_reaches_everybody_in_the_call_and_the_next_call_goes_on():
    server = Server(ConnectionError("gone"))
    calls = BatchedCalls(server)
    answers = await hand_over(calls, [1, 2, 3])
    assert [str(answer) for answer in answers] == ["gone"] * 3
    server.error = None
    assert await calls([4]) == [40]


async def test_an_answer_too_few_is_an_error_not_a_wait():
    async def forgetful(items):
        return items[1:]

    with pytest.raises(ValueError, match="shorter"):
        await asyncio.wait_for(BatchedCalls(forgetful)([1, 2]), 5)


async def test_nothing_to_send_is_no_call():
    server = Server()
    assert await BatchedCalls(server)([]) == []
    assert server.calls == []

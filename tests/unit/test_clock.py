"""The clock of tests whose sleeps take no time."""

import asyncio

import pytest

from tests.support import clock

pytestmark = pytest.mark.leaping


async def test_what_sleeps_takes_no_time_and_its_deadline_comes():
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(3600), 600)
    assert loop.time() == pytest.approx(600)


async def test_a_deadline_comes_though_something_never_rests(monkeypatch):
    monkeypatch.setattr(clock, "RESTLESS_TURNS", 50)

    async def spin():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(spin(), 0.01)

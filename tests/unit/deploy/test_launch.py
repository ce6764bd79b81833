"""What a launcher knows of its processes, without Ray."""

import asyncio
from types import SimpleNamespace

import pytest

from deploy.processes import local, stacks
from deploy.processes.base import Process
from deploy.processes.local import LocalProcesses
from deploy.processes.on_ray import RayProcesses
from oapl.config import RunConfig
from oapl.errors import DiedError, RankError


class RayActorError(Exception):
    pass


@pytest.fixture
def processes():
    """A launcher on Ray that was never connected."""
    made = object.__new__(RayProcesses)
    made._config = RunConfig()
    made._ray = SimpleNamespace(exceptions=SimpleNamespace(RayActorError=RayActorError))
    made._started, made._pids = [], {}
    return made


async def test_stacks_are_asked_of_the_process_that_ray_has_started_in_an_actors_place(
    processes, monkeypatch, tmp_path
):
    asked = []

    async def write(path, why, there):
        asked.extend((one.name, one.pid) for one in there)

    monkeypatch.setattr(stacks, "write", write)
    processes._started = [Process("reward-0", None, 7), Process("trainer-0", None, 8)]
    processes._pids = {"reward-0": 9, "trainer-0": None}
    await processes.write_stacks(tmp_path, "a batch")
    assert asked == [("reward-0", 9), ("trainer-0", 8)]


async def test_a_rank_that_dies_before_it_has_an_address_takes_the_run_back(processes):
    """As one does that dies while it is built: only all ranks together can be started again."""

    async def died():
        raise RayActorError("killed by signal 9")

    actor = SimpleNamespace(place=SimpleNamespace(remote=died))
    told = "learner rank trainer-1 died while it was being started"
    with pytest.raises(RankError, match=told) as caught:
        await processes._place_of(1, actor)
    assert isinstance(caught.value.__cause__, DiedError), "it raised nothing that comes again"
    assert isinstance(caught.value.__cause__.__cause__, RayActorError)


async def test_what_goes_wrong_as_an_object_here_is_closed_is_not_swallowed(monkeypatch):
    class Closing:
        def close(self):
            raise AttributeError("'NoneType' object has no attribute 'shutdown'")

    class Without:
        pass

    for object_ in (Without, Closing):
        monkeypatch.setattr(local.plugins, "resolve", lambda _, made=object_: lambda *_: made())
        here = object.__new__(LocalProcesses)
        here._config, here._started = RunConfig(), []
        here._building = asyncio.Lock()
        process = await here.start("worker", "worker-0.0")
        if object_ is Without:
            await here.kill(process)
            continue
        with pytest.raises(AttributeError, match="shutdown"):
            await here.kill(process)

"""The process behind a handle: when its object is there."""

import os
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from deploy.processes import handles
from oapl.errors import DiedError, ReplayError

BUILT = []


class Thing:
    async def double(self, number):
        return 2 * number


def build(config, *, fails=False):
    BUILT.append(config)
    if fails:
        raise ValueError("no such thing")
    return Thing()


@pytest.fixture
def host(monkeypatch):
    BUILT.clear()
    monkeypatch.setattr(handles, "_redirect_output", lambda log: None)
    return lambda **kwargs: handles.AsyncHost(f"{__name__}:build", "config", "log", kwargs)


async def test_who_answers_has_its_object(host):
    """Ray starts an actor again without our `start`: its first answer follows the building."""
    again = host()
    assert BUILT == []
    assert await again.ping() == os.getpid()
    assert BUILT == ["config"]
    assert await again.call("double", (4,), {}) == 8
    assert await again.ping() == os.getpid()
    assert BUILT == ["config"], "built once"


async def test_what_cannot_be_built_does_not_answer(host):
    with pytest.raises(ValueError, match="no such thing"):
        await host(fails=True).ping()


class Method:
    """Of an actor whose answers Ray cannot bring."""

    def __init__(self, error):
        self.error = error

    def options(self, **_):
        return self

    async def remote(self, *_):
        raise self.error


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (ActorDiedError(), "died when it was asked for put"),
        (ActorUnavailableError("gone", None), "could not be reached any more when it was"),
    ],
    ids=["dead", "away"],
)
async def test_of_a_process_that_is_gone_or_away_the_name_and_the_log_are_told(error, how):
    """An answer that may never come of the buffer takes the run back."""
    for name, kind in (("replay", ReplayError), ("worker-0.1", DiedError)):
        actor = SimpleNamespace(call=Method(error))
        with pytest.raises(kind, match=f"{name} {how}.*see logs/{name}.log"):
            await handles.RayHandle(actor, name).put(1)

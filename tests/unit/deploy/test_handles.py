"""The process behind a handle: when its object is there."""

import os

import pytest

from deploy.processes import handles

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

"""One calling convention, `await x.method(...)`, for objects here and objects in Ray actors.

What cannot be pickled (an engine, a tokenizer) is made in the process that owns it, so an actor is
started from the dotted name of a `build(config, **handles)` function. A synchronous object lives
on one thread of its own (here) or on its actor's main thread (Ray), which is what collectives and
signal-based timeouts want; an object with `async` methods lives on its process's event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from oapl import plugins
from oapl.config import RunConfig
from oapl.errors import DiedError, OaplError
from oapl.waiting import within


class LocalHandle:
    """Calls an object of this process; its synchronous methods run on one thread of its own."""

    def __init__(self, target: Any, thread: ThreadPoolExecutor | None = None) -> None:
        self._target = target
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix=type(target).__name__)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._target, name)
        if inspect.iscoroutinefunction(method):
            return method
        return partial(self._call, method)

    async def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(method, *args, **kwargs))


class RayHandle:
    """Calls an object inside a Ray actor; can be sent to other actors.

    Args:
        actor: The `AsyncHost` or `SyncHost`.
        name: For errors.
        limit_s: Longest a call may take; None where the caller bounds it, or it lasts a life long.
    """

    def __init__(self, actor: Any, name: str = "", limit_s: float | None = None) -> None:
        self._actor = actor
        self._name = name
        self._limit_s = limit_s

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        from ray.exceptions import ActorDiedError

        answer = self._actor.call.options(name=method).remote(method, args, kwargs)
        try:
            if self._limit_s is None:
                return await answer
            return await within(self._limit_s, answer, f"{self._name} to answer {method}")
        except OaplError as error:  # Ray's copy, whose text is a traceback, stands for the cause
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, OaplError) else error) from None
        except ActorDiedError as error:
            raise DiedError(
                f"{self._name} died when it was asked for {method}; see logs/{self._name}.log in "
                "the run folder"
            ) from error

    def __reduce__(self) -> tuple[type[RayHandle], tuple[Any, ...]]:
        return RayHandle, (self._actor, self._name, self._limit_s)


class _Host:
    """Builds its object at the first call, so that what goes wrong there is raised to the caller
    as itself; an actor that Ray has restarted builds it anew in the same way."""

    def __init__(self, build: str, config: RunConfig, log: str, kwargs: Mapping[str, Any]) -> None:
        _redirect_output(log)
        self._make = partial(plugins.resolve(build), config, **kwargs)
        self._target: Any = None

    def place(self) -> tuple[str, int]:
        """This node's address, and a TCP port that is free there now."""
        import ray

        address = ray.util.get_node_ip_address()
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
            return address, int(probe.getsockname()[1])

    def _build(self, late: Mapping[str, Any]) -> int:
        """With what was not known when the actor was made. Returns the process id."""
        self._make = partial(self._make, **late)
        self._method("__init__")
        return os.getpid()

    def _method(self, name: str) -> Callable[..., Any]:
        if self._target is None:
            self._target = self._make()
        return getattr(self._target, name)


class AsyncHost(_Host):
    """A Ray actor around an object with `async` methods: calls interleave on one event loop."""

    async def start(self, **late: Any) -> int:
        return self._build(late)

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = self._method(method)(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer


class SyncHost(_Host):
    """A Ray actor around a synchronous object: one call at a time, on the main thread."""

    def start(self, **late: Any) -> int:
        return self._build(late)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._method(method)(*args, **kwargs)


def _redirect_output(log: str) -> None:
    """Send the process's standard output and error, C libraries' included, to the run folder."""
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)

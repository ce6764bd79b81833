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
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from deploy.processes import stacks
from deploy.processes.keys import Keys
from oapl.config import RunConfig, plugins
from oapl.errors import DeadlineError, DiedError, OaplError, ReplayError
from oapl.remote.waiting import within

REPLAY = "replay"
"""The process that holds the buffer."""
AWAY = "ActorUnavailableError"
"""What Ray raises of a process that it cannot reach, and that may be there."""


class LocalHandle:
    """Calls an object of this process; its synchronous methods run on one thread of its own.

    Args:
        target: The object.
        thread: Where it was made, if it must be called there; None makes a thread.
    """

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

    def promise(self, method: str, *args: Any) -> LocalPromise:
        """Begin a synchronous call whose answer may be handed on before it is there."""
        future = self._thread.submit(getattr(self._target, method), *args)
        return LocalPromise(future, f"{type(self._target).__name__}.{method}")

    async def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(method, *args, **kwargs))


class LocalPromise:
    """Another thread of this process keeps it; see `oapl.remote.promises.Promise`.

    Args:
        future: Its answer.
        what: CLASS.METHOD, for errors.
    """

    def __init__(self, future: Future[Any], what: str) -> None:
        self._future = future
        self._what = what

    def get(self, timeout_s: float) -> Any:
        """See `Promise.get`.

        Raises:
            DeadlineError: It did not come within `timeout_s`.
        """
        try:
            return self._future.result(timeout_s)
        except TimeoutError as error:
            if self._future.done():
                raise
            raise DeadlineError(f"waited {timeout_s:g} s for {self._what}") from error

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()


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

    def promise(self, method: str, *args: Any) -> RayPromise:
        """Begin a call whose answer may be handed on before it is there."""
        return RayPromise(self._begin(method, args, {}), self._name, method, self._limit_s)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await RayPromise(
            self._begin(method, args, kwargs), self._name, method, self._limit_s
        )

    def _begin(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._actor.call.options(name=method).remote(method, args, kwargs)

    def __reduce__(self) -> tuple[type[RayHandle], tuple[Any, ...]]:
        return RayHandle, (self._actor, self._name, self._limit_s)


class RayPromise:
    """A Ray actor keeps it; see `oapl.remote.promises.Promise`.

    Awaited where it was made, it is bounded by the handle's own limit.

    Args:
        ref: Ray's reference to the answer.
        name: Of the process, for errors.
        method: Asked for, for errors.
        limit_s: Longest that an await may take; None bounds nothing.
    """

    def __init__(self, ref: Any, name: str, method: str, limit_s: float | None) -> None:
        self._ref = ref
        self._name = name
        self._method = method
        self._limit_s = limit_s

    def get(self, timeout_s: float) -> Any:
        """See `Promise.get`.

        Raises:
            DeadlineError: It did not come within `timeout_s`.
            DiedError: The process is gone.
            ReplayError: The same of the replay buffer.
            OaplError: What the method raised.
        """
        import ray

        with self._own_errors():
            try:
                return ray.get(self._ref, timeout=timeout_s)
            except ray.exceptions.GetTimeoutError as error:
                raise DeadlineError(f"waited {timeout_s:g} s for {self._what}") from error

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        with self._own_errors():
            if self._limit_s is None:
                return await self._ref
            return await within(self._limit_s, self._ref, self._what)

    @property
    def _what(self) -> str:
        return f"{self._name} to answer {self._method}"

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        from ray.exceptions import ActorDiedError, ActorUnavailableError

        try:
            yield
        except OaplError as error:  # Ray's copy, whose text is a traceback, stands for the cause
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, OaplError) else error) from None
        except (ActorDiedError, ActorUnavailableError) as error:
            raise death(self._name, error, f"when it was asked for {self._method}") from error


def death(name: str, error: Exception, when: str) -> OaplError:
    """Say that a process has died.

    Args:
        name: Its own.
        error: Ray's.
        when: What it did then.

    Returns:
        A `ReplayError` where it held the buffer: whoever asks hears that the run goes back.
    """
    how = "died with its node" if "node has died" in str(error) else "died"
    if type(error).__name__ == AWAY:  # what it was asked for may be done, or never be
        how = "could not be reached any more"
    text = f"{name} {how} {when}; see logs/{name}.log in the run folder"
    return ReplayError(text) if name == REPLAY else DiedError(text)


class _Host:
    """Builds its object at the first call, and makes calls of it.

    What goes wrong in building is thus raised to the caller as itself; an actor that Ray has
    restarted builds its object anew in the same way.
    """

    def __init__(
        self,
        build: str,
        config: RunConfig,
        log: str,
        kwargs: Mapping[str, Any],
        keys: Keys | None = None,
        folder: str = "",
    ) -> None:
        if folder:  # of the command: relative paths are meant from there
            with suppress(OSError):  # this machine has none: then paths are absolute, or not found
                os.chdir(folder)
        _redirect_output(log)
        if keys is not None:
            keys.forget(os.environ)
        stacks.arm()
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
        """Build the object, given `late` too; return the process id."""
        return self._build(late)

    async def ping(self) -> int:
        """Answer whatever else goes on, with the process id: a restart changes it.

        At once, but where Ray has started the actor again: once the object is built anew, so that
        who has answered can also do its work.
        """
        self._method("__init__")
        return os.getpid()

    async def stacks(self) -> str:
        """Tell what every coroutine here waits for, whatever else goes on."""
        return stacks.of_tasks()

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of the object, and wait for what it returns.

        Args:
            method: Its name.
            args: In order.
            kwargs: By name.
        """
        answer = self._method(method)(*args, **kwargs)
        return await stacks.awaited(answer) if inspect.isawaitable(answer) else answer


class SyncHost(_Host):
    """A Ray actor around a synchronous object: one call at a time, on the main thread."""

    def start(self, **late: Any) -> int:
        """Build the object, given `late` too; return the process id."""
        return self._build(late)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of the object.

        Args:
            method: Its name.
            args: In order.
            kwargs: By name.
        """
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

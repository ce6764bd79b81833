"""A worker process: judges one item after the other until its socket closes.

The fork server forked it, with the verifier already built. Its parent may die (it then gets
SIGKILL), its server may die (it reads end of file); it never outlives either.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from oapl.errors import InputError
from oapl.interfaces import Verifier
from oapl.records import Prompt, Rollout
from reward_server.pool import frames
from reward_server.sandbox import jail
from reward_server.verifiers.base import Limits, Unavailable

SET_PARENT_DEATH_SIGNAL = 1
KEPT_IN_JAIL = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
FLUSH_NS = 5_000_000
"""Verdicts that came faster than this go up together: a frame costs more than a cheap verdict."""
GARBAGE_THRESHOLD = 50_000
"""Objects between collections: sympy makes thousands for an answer, and hardly a cycle."""


def run(
    connection: socket.socket,
    started: frames.StartedCounter,
    verifier: Verifier,
    *,
    start: Callable[[str], None],
    limits: Limits,
    level: str,
    parent: int,
) -> None:
    """Take in the server's variables, start, lock up, and judge until end of file.

    Args:
        connection: Socket to the reward server.
        started: Where the number of items started on is written.
        verifier: Built by the fork server.
        start: Starts it in this process.
        limits: What this process is held to.
        level: What `start` is told: the level of the jail, or of the sandbox for programs.
        parent: Process id of the fork server, whose death ends this process.
    """
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    variables = frames.receive(connection)
    if variables is None or os.getppid() != parent:
        return
    _set_environment(pickle.loads(variables), limits)
    try:
        start(level)
        _lock(limits)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may raise anything
        traceback.print_exc()
        _send(connection, {"failed": _line(error)})
        return
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    _send(connection, {"ready": True})
    _serve(connection, started, verifier)


def _serve(connection: socket.socket, started: frames.StartedCounter, verifier: Verifier) -> None:
    """Judge items in the order in which they come; say of each that it is started."""
    number = 0
    outgoing = frames.OutgoingVerdicts()
    flushed_ns = time.perf_counter_ns()
    while (body := frames.receive(connection)) is not None:
        now_ns = time.perf_counter_ns()
        for prompt, rollout in pickle.loads(body):
            number += 1
            started.count = number
            judge(verifier, prompt, rollout, now_ns, outgoing)
            now_ns = time.perf_counter_ns()
            if now_ns - flushed_ns > FLUSH_NS or len(outgoing) == frames.MAX_VERDICTS:
                _send(connection, outgoing.frame(number - len(outgoing)))
                outgoing, flushed_ns = frames.OutgoingVerdicts(), now_ns
        if outgoing:
            _send(connection, outgoing.frame(number - len(outgoing)))
            outgoing, flushed_ns = frames.OutgoingVerdicts(), now_ns


def judge(
    verifier: Verifier,
    prompt: Prompt,
    rollout: Rollout,
    started_ns: int,
    outgoing: frames.OutgoingVerdicts,
) -> None:
    """Add the verdict on one item; its kind is `FAILURE` where the prompt itself cannot be judged.

    Args:
        verifier: A plugin's; whatever it raises becomes a verdict.
        prompt: What the item answers.
        rollout: The answer.
        started_ns: When it was begun, by `time.perf_counter_ns`.
        outgoing: Where the verdict is added.
    """
    try:
        verdict = verifier.verify(prompt, rollout)
        outgoing.add(verdict, time.perf_counter_ns() - started_ns)
        return
    except (InputError, Unavailable) as error:
        kind, detail = frames.FAILURE, str(error)
    except MemoryError as error:
        kind, detail = "resource_limit", _line(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - counted: the verdict is `error`
        kind, detail = "error", _line(error)
    outgoing.add_without_reward(kind, detail, time.perf_counter_ns() - started_ns)


def _set_environment(variables: Mapping[str, str], limits: Limits) -> None:
    """The server's variables for a user's function; a jailed process is told no secrets."""
    kept = {key: os.environ[key] for key in KEPT_IN_JAIL if key in os.environ}
    os.environ.clear()
    os.environ.update(kept if limits.is_jailed else variables)


def _lock(limits: Limits) -> None:
    if limits.is_jailed:
        jail.enter(limits.memory_bytes)
    else:
        jail.limit(limits.memory_bytes)


def _line(error: BaseException) -> str:
    """Type, message and place of an error, in one line."""
    trace = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(trace[-1].filename)}:{trace[-1].lineno})" if trace else ""
    return f"{type(error).__name__}: {error}"[: frames.MAX_DETAIL - len(place)] + place


def _send(connection: socket.socket, frame: Mapping[str, Any]) -> None:
    connection.sendall(frames.pack(json.dumps(frame).encode()))

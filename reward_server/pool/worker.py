"""A worker process: judges one item after the other until its socket closes.

It was forked from the template with the verifier already built. Its parent may die (it then gets
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
from collections.abc import Mapping
from typing import Any

from oapl.errors import InputError
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
    begun: frames.StartedCounter,
    verifier: Any,
    *,
    limits: Limits,
    level: str,
    parent: int,
) -> None:
    """Take in the set-up frame, start, lock up, and judge until end of file."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    setup = frames.receive(connection)
    if setup is None or os.getppid() != parent:
        return
    _environment(pickle.loads(setup), limits)
    try:
        if hasattr(verifier, "start"):
            verifier.start(level)
        _lock(limits)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may raise anything
        traceback.print_exc()
        _send(connection, {"failed": _line(error)})
        return
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    _send(connection, {"ready": True})
    _serve(connection, begun, verifier)


def _serve(connection: socket.socket, begun: frames.StartedCounter, verifier: Any) -> None:
    """Judge items in the order in which they come; say of each that it is begun."""
    number = 0
    rows = frames.Rows()
    flushed = time.perf_counter_ns()
    while (body := frames.receive(connection)) is not None:
        started = time.perf_counter_ns()
        for prompt, rollout in pickle.loads(body):
            number += 1
            begun.count = number
            judge(verifier, prompt, rollout, started, rows)
            started = time.perf_counter_ns()
            if started - flushed > FLUSH_NS or len(rows) == frames.MAX_ROWS:
                _send(connection, rows.frame(number - len(rows)))
                rows, flushed = frames.Rows(), started
        if rows:
            _send(connection, rows.frame(number - len(rows)))
            rows, flushed = frames.Rows(), started


def judge(verifier: Any, prompt: Prompt, rollout: Rollout, started: int, rows: frames.Rows) -> None:
    """Add one verdict; kind `failure` where the prompt itself cannot be judged."""
    try:
        verdict = verifier.verify(prompt, rollout)
        rows.add(verdict, time.perf_counter_ns() - started)
        return
    except (InputError, Unavailable) as error:
        kind, detail = frames.FAILURE, str(error)
    except MemoryError as error:
        kind, detail = "resource_limit", _line(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - counted: the verdict is `error`
        kind, detail = "error", _line(error)
    rows.add_unpaid(kind, detail, time.perf_counter_ns() - started)


def _environment(variables: Mapping[str, str], limits: Limits) -> None:
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

"""A worker process: judges one item after the other until its socket closes.

It was forked from the template with the verifier already built. Its parent may die (it then gets
SIGKILL), its server may die (it reads end of file); it never outlives either.
"""

from __future__ import annotations

import ctypes
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
from reward_server import wire
from reward_server.sandbox import jail
from reward_server.verifiers.base import Limits

SET_PARENT_DEATH_SIGNAL = 1
MAX_DETAIL = 500
KEPT_IN_JAIL = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


def run(connection: socket.socket, verifier: Any, limits: Limits, level: str, parent: int) -> None:
    """Take in the set-up frame, start, lock up, and judge until end of file."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    setup = wire.receive(connection)
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
    _send(connection, {"ready": True})
    number = 0
    while (body := wire.receive(connection)) is not None:
        for prompt, rollout in pickle.loads(body):
            _send(connection, {**judge(verifier, prompt, rollout), "number": number})
            number += 1


def judge(verifier: Any, prompt: Prompt, rollout: Rollout) -> dict[str, Any]:
    """One verdict as a table; `failure` instead where the prompt itself cannot be judged."""
    started = time.perf_counter()
    try:
        verdict = verifier.verify(prompt, rollout)
        answer = {
            "kind": verdict.kind,
            "reward": float(verdict.reward),
            "detail": str(verdict.detail)[:MAX_DETAIL],
            "parts": {name: float(part) for name, part in verdict.parts.items()},
        }
    except InputError as error:
        return {"failure": str(error)[:MAX_DETAIL]}
    except MemoryError as error:
        answer = {"kind": "resource_limit", "reward": None, "detail": _line(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - counted: the verdict is `error`
        answer = {"kind": "error", "reward": None, "detail": _line(error)}
    return {**answer, "seconds": time.perf_counter() - started}


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
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[: MAX_DETAIL - len(place)] + place


def _send(connection: socket.socket, answer: Mapping[str, Any]) -> None:
    connection.sendall(wire.pack(json.dumps(answer).encode()))

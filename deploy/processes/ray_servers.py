"""How the servers of a Ray of our own are started: what Ray has no setting for.

Ray starts its head, its raylet and the rest through a few functions, which are replaced while it
does. Invariants: a signal to the process group of the command (Ctrl-C, GNU `timeout`, a terminal
that is closed, a batch system) reaches none of them, so that the run can stop in order; the kernel
still ends them with the thread that started them, however that ends; what nobody asks is not
started.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

END_S = 10.0


@contextlib.contextmanager
def patient(
    services: Any, timeout_s: float, servers: Sequence[subprocess.Popen[Any]] = ()
) -> Iterator[None]:
    """Let a new node register with its head late: Ray gives it 30 s.

    Args:
        services: The module `ray._private.services`.
        timeout_s: How long it may take; until then the question whether it has is not answered.
        servers: Of the node: nobody waits for one that has ended.
    """
    ask = services.get_node

    def ask_until(*arguments: Any, **named: Any) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return ask(*arguments, **named)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline or ended(servers):
                    raise
                time.sleep(0.1)

    services.get_node = ask_until
    try:
        yield
    finally:
        services.get_node = ask


@contextlib.contextmanager
def apart(services: Any) -> Iterator[list[subprocess.Popen[Any]]]:
    """Start each server in a session of its own, with all that it starts; give those started.

    Args:
        services: The module `ray._private.services`.
    """
    start, servers = services.ConsolePopen, list[subprocess.Popen[Any]]()

    def begin(*arguments: Any, **named: Any) -> Any:
        server = start(*arguments, start_new_session=True, **named)
        servers.append(server)
        return server

    services.ConsolePopen = begin
    try:
        yield servers
    finally:
        services.ConsolePopen = start


def ended(servers: Sequence[subprocess.Popen[Any]]) -> list[str]:
    """Which of the servers have ended, in words."""
    over = [server for server in servers if server.poll() is not None]
    return [f"{Path(str(one.args[0])).name} (exit code {one.returncode})" for one in over]  # type: ignore[index]


def end(servers: Sequence[subprocess.Popen[Any]]) -> None:
    """Kill what is left of servers of which one has ended."""
    for server in servers:
        server.kill()
        server.wait(END_S)


@contextlib.contextmanager
def few(services: Any, parameter: Any) -> Iterator[None]:
    """Leave out what a run of its own never asks: the API server (which `include_dashboard=False`
    keeps), the autoscaler's monitor, and the log monitor, since every actor writes its own log.

    Args:
        services: The module `ray._private.services`.
        parameter: The module `ray._private.parameter`.
    """
    serve, params = services.start_api_server, parameter.RayParams
    services.start_api_server = lambda *_, **__: ("", None)
    parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    try:
        yield
    finally:
        services.start_api_server, parameter.RayParams = serve, params

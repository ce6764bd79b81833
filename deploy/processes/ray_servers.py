"""How the servers of a Ray of our own are started: what Ray has no setting for.

Ray starts its head, its raylet and the rest through a few functions, which are replaced while it
does. Invariants: a signal to the process group of the command (Ctrl-C, GNU `timeout`, a terminal
that is closed, a batch system) reaches none of them, so that the run can stop in order; the kernel
still ends them with the thread that started them, however that ends; what nobody asks is not
started.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any


@contextlib.contextmanager
def patient(services: Any, timeout_s: float) -> Iterator[None]:
    """Let a new node register with its head late: Ray gives it 30 s.

    Args:
        services: The module `ray._private.services`.
        timeout_s: How long it may take; until then the question whether it has is not answered.
    """
    ask = services.get_node

    def ask_until(*arguments: Any, **named: Any) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return ask(*arguments, **named)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    services.get_node = ask_until
    try:
        yield
    finally:
        services.get_node = ask


@contextlib.contextmanager
def apart(services: Any) -> Iterator[None]:
    """Start each server in a session of its own, with all that it starts.

    Args:
        services: The module `ray._private.services`.
    """
    start = services.ConsolePopen
    services.ConsolePopen = partial(start, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = start


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

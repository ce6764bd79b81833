"""How a run is asked to stop: by a signal, or by whoever sets the event."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a run is to stop, and why. Made inside the run's event loop.

    Attributes:
        event: Set when it is to stop.
        signal: The number of the signal that asked for it; 0 where none did.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.signal = 0

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within this, the first SIGINT or SIGTERM asks to stop, and a second ends the program."""
        loop = asyncio.get_running_loop()
        old: dict[int, Any] = {}

        def restore() -> None:
            while old:
                signal.signal(*old.popitem())

        def handle(number: int, frame: object) -> None:
            self.signal = number
            restore()
            loop.call_soon_threadsafe(self.event.set)

        with contextlib.suppress(ValueError):  # not the main thread: its owner handles signals
            old = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            yield
        finally:
            restore()

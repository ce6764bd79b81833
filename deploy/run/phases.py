"""The phases of a run, told as they begin and timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oapl.interfaces import Tracker


class Phases:
    """Tells the tracker which phase begins, and adds up the wall time of each.

    Args:
        tracker: Is told.
        seconds: Wall time by phase so far; is added to.
    """

    def __init__(self, tracker: Tracker, seconds: dict[str, float]) -> None:
        self._tracker = tracker
        self.seconds = seconds

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Be in phase `name`, one of `oapl.tracking.status.PHASES`, while the block runs."""
        began = time.monotonic()
        self._tracker.phase(name)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

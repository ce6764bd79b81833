"""How a run is asked to stop: by a signal, or by whoever sets the event.

Invariants: the first signal is acknowledged and asks, the second ends the run now, in order, and a
third ends the process as if nobody handled it; where a terminal's end was to be ignored (`nohup`)
it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from deploy.run.outcome import Generated, RunOutcome
from oapl.remote.waiting import unless

T = TypeVar("T")
Outcome = TypeVar("Outcome", RunOutcome, Generated)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REARM_S = 0.02
"""How long a library's handlers may stand in place of ours."""


class Stopped(Exception):
    """A signal ended what was awaited."""


class Stop:
    """Whether a run is to stop, and why. Made inside the task that runs it.

    Attributes:
        event: Set when it is to stop between two steps.
        asked: Set when a signal asked for it: what is no step is not waited for.
        signal: The number of the first signal; 0 where none came.
        tell: Is given a line when one comes.
    """

    def __init__(self) -> None:
        self.event, self.asked = asyncio.Event(), asyncio.Event()
        self.signal = 0
        self.tell: Callable[[str], None] = lambda _: None
        self._when = ""
        self._hurry: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._handled: list[signal.Signals] = []
        self._next: Any = self._ask

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within this, the first of `SIGNALS` asks to stop, and a second cancels our task."""
        old: dict[signal.Signals, Any] = {}
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before == signal.SIG_IGN:
                continue
            with contextlib.suppress(ValueError):  # not the main thread: its owner handles them
                signal.signal(number, self._handle)
                old[number] = before
        self._handled = [*old]
        try:
            yield
        finally:
            self._handled = []
            for number, before in old.items():
                signal.signal(number, before)

    @contextlib.asynccontextmanager
    async def rearmed(self) -> AsyncIterator[None]:
        """Within this and after it, handle the signals whatever a library does to them.

        Ray puts its own handler of SIGTERM in place when it starts, and takes away whoever's is
        there when it ends, beneath Python, so that the signal would kill the process without a
        word.
        """

        async def again() -> None:
            while True:
                self._rearm()
                await asyncio.sleep(REARM_S)

        rearming = asyncio.create_task(again())
        try:
            yield
        finally:
            rearming.cancel()
            self._rearm()

    def _rearm(self) -> None:
        for number in self._handled:
            signal.signal(number, self._handle)

    async def unless_asked(self, what: Awaitable[T]) -> T:
        """Await `what`, but no longer than until a signal comes.

        Raises:
            Stopped: One has come.
        """
        answer = await unless(self.asked, what)
        if answer is None and self.signal:
            raise Stopped
        return answer  # type: ignore[return-value]

    @contextlib.contextmanager
    def by(self, when: str, hurry: Callable[[], None]) -> Iterator[None]:
        """Within this, a run that is asked ends something first.

        Args:
            when: What, for the line that acknowledges: ` after this step`.
            hurry: Called when it is asked.
        """
        self._when, self._hurry = when, hurry
        try:
            yield
        finally:
            self._when, self._hurry = "", lambda: None

    def ended(self, outcome: Outcome) -> Outcome:
        """Where a signal ended the run; else raises again what is being handled."""
        if not self.signal:
            raise
        if self._task is not None:
            self._task.uncancel()
        return replace(outcome, signal=self.signal)

    def _handle(self, number: int, frame: object) -> None:
        """Does nothing here: whatever runs now may hold any lock."""
        act, self._next = self._next, self._end
        if act == self._end:
            for handled in self._handled:
                signal.signal(handled, signal.SIG_DFL)
            self._handled = []
        self.signal = self.signal or number
        self._loop.call_soon_threadsafe(act, signal.Signals(number).name)

    def _ask(self, name: str) -> None:
        _leave_lost_terminal()
        self.event.set()
        self.asked.set()
        self._hurry()
        self.tell(f"{name}: stopping{self._when}; once more ends at once")

    def _end(self, name: str) -> None:
        _leave_lost_terminal()
        self.tell(f"{name} again: ending at once")
        if self._task is not None:
            self._task.cancel()


def _leave_lost_terminal() -> None:
    """Write into nothing what would go to a terminal that was closed, where it raises an error."""
    with open(os.devnull, "r+b") as nothing:
        for descriptor in (0, 1, 2):
            with contextlib.suppress(OSError):  # not even open
                is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
                if is_device and not os.isatty(descriptor):
                    os.dup2(nothing.fileno(), descriptor)

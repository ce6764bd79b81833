"""The waits of this process that go on now, for whoever tells of those that last too long.

A wait is noted when it begins and forgotten when it ends: a microsecond, and nothing else while
nothing is stuck. Of waits inside one another the outermost is noted: it knows best for what.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

SHORT_S = 1.0
"""Of no account for what is usual."""
Describe = Callable[[], Awaitable[str]]


@dataclass(slots=True, eq=False)
class OpenWait:
    """A wait that goes on.

    Attributes:
        what: Who is awaited, for what; ends the sentence "waited 5 s for ...".
        limit_s: Longest.
        who: Waits.
        describe: Asks those who are awaited, and says what `what` says with what they say; may
            fail, and is bounded by its caller. None where there is nobody to ask.
        began: By the loop's clock.
        heard_at: When something of what is awaited came last, or it began.
        told_at: When it was told last that it lasts; -inf before.
        stacks: Where everybody's stacks were written while it went on; None: nowhere.
    """

    what: str
    limit_s: float
    who: str
    describe: Describe | None
    began: float
    heard_at: float
    told_at: float = float("-inf")
    stacks: str | None = None

    @property
    def kind(self) -> str:
        """What it has in common with waits for other numbers of the same."""
        return re.sub(r"\d+(\.\d+)?", "#", self.what)

    @property
    def hint(self) -> str:
        """For the end of an error's line: where to look; empty where there is nothing."""
        return f"; the stacks of all processes are in {self.stacks}" if self.stacks else ""

    def heard(self) -> None:
        """Note that something has come: it is not stuck."""
        self.heard_at = asyncio.get_running_loop().time()


class OpenWaits:
    """Those of a process.

    Attributes:
        usual_s: The longest silence that ended well, by kind of wait, where it was not short.
    """

    def __init__(self) -> None:
        self._open: dict[OpenWait, None] = {}
        self._outer: ContextVar[OpenWait | None] = ContextVar("outer", default=None)
        self.usual_s: dict[str, float] = {}

    def __iter__(self) -> Iterator[OpenWait]:
        """Those that go on now, in the order in which they began."""
        return iter([*self._open])

    @contextlib.contextmanager
    def awaiting(
        self,
        what: str,
        limit_s: float,
        *,
        who: str = "the run",
        describe: Describe | None = None,
        is_told: bool = True,
    ) -> Iterator[OpenWait]:
        """Note a wait while the block runs; it does not end the wait.

        Args:
            what, limit_s, who, describe: As of `OpenWait`.
            is_told: False where the other side may hold its answer back.

        Yields:
            The wait; inside another one, that.
        """
        now = asyncio.get_running_loop().time()
        outer, wait = self._outer.get(), OpenWait(what, limit_s, who, describe, now, now)
        if outer in self._open or not is_told:
            yield outer or wait
            return
        self._open[wait] = None
        token = self._outer.set(wait)
        try:
            yield wait
            silent_s = asyncio.get_running_loop().time() - wait.heard_at
            if silent_s > SHORT_S:
                self.usual_s[wait.kind] = max(silent_s, self.usual_s.get(wait.kind, 0.0))
        finally:
            self._outer.reset(token)
            del self._open[wait]


OPEN = OpenWaits()
"""Of this process."""

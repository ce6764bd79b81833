"""What went wrong beside a command that writes no metrics: told once, at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from oapl.records import Metrics
from oapl.tracking.faults import FirstFaults


class Counting(Protocol):
    """Who has counted."""

    async def stats(self) -> Metrics:
        """Counters since the last call."""


async def tell_faults(tell: Callable[[str], None], owners: Sequence[Counting]) -> None:
    """Tell each kind of fault that was counted and not told.

    Args:
        tell: Takes a line for the person who watches.
        owners: Who is asked, while they still answer.
    """
    faults = FirstFaults()
    for owner in owners:
        for line in faults.lines(await owner.stats()):
            tell(line)

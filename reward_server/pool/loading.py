"""What the first answer of a process may take: it may load what the others use.

Nobody knows how long that takes before it was seen once. Afterwards the limit follows what was
seen, or answers that hang, each the first of a fresh process, would take the whole grace again and
again.
"""

from __future__ import annotations

TIMES = 4.0
"""Over the slowest first answer that was seen: machines are busier at other times."""


class Loading:
    """Shared by the workers of one verifier.

    Args:
        first_s: Limit for a first answer, until one has come.
        deadline_s: Limit for each other one.

    Attributes:
        limit_s: For the first answer of the next process.
    """

    def __init__(self, first_s: float, deadline_s: float) -> None:
        self.limit_s = max(first_s, deadline_s)
        self._most_s = self.limit_s
        self._deadline_s = deadline_s
        self._slowest_s = 0.0

    def took(self, seconds: float) -> None:
        """Note how long a first answer took that has come."""
        self._slowest_s = max(self._slowest_s, seconds)
        self.limit_s = min(self._most_s, self._deadline_s + TIMES * self._slowest_s)

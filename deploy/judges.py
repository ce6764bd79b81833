"""The reward servers of a run, as the learner sees them: counters that survive a server's death.

Ray restarts a dead server where it was, and workers ask again; what is lost is its counters since
the last report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oapl.interfaces import Scorer
from oapl.records import Metrics
from oapl.waiting import within

STATS_TIMEOUT_S = 30.0


class Judges:
    """Collects counters of all reward servers."""

    def __init__(self, servers: Sequence[Scorer], note: Callable[[str], None]) -> None:
        self._servers = servers
        self._note = note
        self._is_down = False

    async def stats(self) -> Metrics:
        """What the servers counted since the last call; a dead one counts as a fault."""
        metrics: Metrics = {"faults/reward_servers_down": 0.0}
        for number, server in enumerate(self._servers):
            try:
                metrics |= await within(STATS_TIMEOUT_S, server.stats(), f"reward server {number}")
            except Exception as error:  # noqa: BLE001  Ray raises what it likes for a dead actor
                metrics["faults/reward_servers_down"] += 1
                if not self._is_down:
                    self._note(f"reward server {number} is down ({type(error).__name__})")
        self._is_down = metrics["faults/reward_servers_down"] > 0
        return metrics

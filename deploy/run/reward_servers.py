"""The reward servers of a run, as the learner sees them: counters that survive a server's death.

Ray restarts a dead server where it was, and workers ask again; what is lost is its counters since
the last report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from oapl.interfaces import Scorer
from oapl.records import Metrics
from oapl.remote.waiting import within

STATS_TIMEOUT_S = 30.0
COUNTS = ("judged", "failures", "queue_length")


class RewardServers:
    """Collects the counters of all reward servers.

    Args:
        servers: Their handles.
        note: Is told once when one stops answering.
    """

    def __init__(self, servers: Sequence[Scorer], note: Callable[[str], None]) -> None:
        self._servers = servers
        self._note = note
        self._is_down = False

    async def stats(self) -> Metrics:
        """Merge what the servers counted since the last call; a dead one counts as a fault."""
        reports = await asyncio.gather(*map(self._report, range(len(self._servers))))
        there = [report for report in reports if report is not None]
        down = len(reports) - len(there)
        self._is_down = down > 0
        return {**merged(there), "faults/reward_servers_down": float(down)}

    async def _report(self, number: int) -> Metrics | None:
        server = self._servers[number]
        try:
            return await within(STATS_TIMEOUT_S, server.stats(), f"reward server {number}")
        except Exception as error:  # noqa: BLE001  Ray raises what it likes for a dead actor
            if not self._is_down:
                self._note(f"reward server {number} is down ({type(error).__name__})")
            return None


def merged(reports: Sequence[Metrics]) -> Metrics:
    """Merge the reports of several servers into one.

    Counts are summed, means weighted by the verdicts given; the slowest server's latencies stand
    for all, and the weakest sandbox.
    """
    metrics: Metrics = {}
    for name in dict.fromkeys(name for report in reports for name in report):
        told = [report for report in reports if name in report]
        values = [report[name] for report in told]
        verifier, _, measure = name.removeprefix("reward/").partition("/")
        if name.startswith("faults/") or measure in COUNTS:
            metrics[name] = sum(values)
        elif measure.startswith("latency"):
            metrics[name] = max(values)
        elif not measure:
            metrics[name] = min(values)
        else:
            weights = [report[f"reward/{verifier}/judged"] for report in told]
            products = (value * weight for value, weight in zip(values, weights, strict=True))
            metrics[name] = sum(products) / sum(weights)
    return metrics

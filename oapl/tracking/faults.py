"""Faults in words: what is counted is told, too, the first time that it happens.

Invariant: of each metric `faults/*`, and of its likes, one line stands in the messages, written
where the fault is met or, for the others, by whoever sees its first count.
"""

from __future__ import annotations

from collections.abc import Iterator

from oapl.records import Metrics
from oapl.tracking.names import describe

FAULTS = "faults/"
TOLD_WHERE_MET = frozenset(
    {
        "faults/worker_restarts",
        "faults/reward_server_restarts",
        "faults/reward_servers_down",
        "faults/rank_restarts",
        "faults/replay_restarts",
        "faults/node_restarts",
        "faults/skipped_evaluations",
        "faults/reward_timeout",
        "faults/reward_error",
    }
)
"""With a cause of their own, each time or once per sort."""
UNDER_OTHER_NAMES = frozenset(
    {
        "critic/skipped",
        "replay/duplicates",
        "replay/refused_incomplete",
        "replay/refused_unknown",
    }
)
"""What should not happen, too, counted beside its likes."""


class FirstFaults:
    """Tells the first fault of each kind, for as long as it lives."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def lines(self, values: Metrics) -> Iterator[str]:
        """Give a line for each kind that nobody has told yet.

        Args:
            values: Counted since the last call, among other metrics.
        """
        for name, value in sorted(values.items()):
            is_fault = name.startswith(FAULTS) or name in UNDER_OTHER_NAMES
            if not is_fault or name in TOLD_WHERE_MET or not value > 0 or name in self._told:
                continue
            self._told.add(name)
            known = describe(name)
            meaning = f", {known.meaning}" if known else ""
            yield f"fault: {name} = {value:g}{meaning}; told once, the metric counts all"

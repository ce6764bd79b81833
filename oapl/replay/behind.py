"""The version before the served one, while few engines end its last groups.

Invariants: what an engine hands over is taken by one that stays behind, under the same version, or
its draw begins anew; with no engine left behind, whatever the cause, the period takes the groups
that it lacks from those of the next version: each is of one version still, and its lag is smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from oapl.records import WorkerId


@dataclass(slots=True)
class Behind:
    """Who stays behind.

    Attributes:
        version: What those engines hold; -1: nobody does.
        workers: Theirs.
    """

    version: int = -1
    workers: set[WorkerId] = field(default_factory=set)

    def has(self, worker: WorkerId, version: int) -> bool:
        """Whether the worker stays behind with that version."""
        return version == self.version and worker in self.workers


def chosen(holders: Mapping[WorkerId, int], count: int) -> frozenset[WorkerId]:
    """Choose who stays behind: those that hold most of the last groups, so that few are moved.

    Args:
        holders: Draws in flight of those that hold any.
        count: How many stay.
    """
    return frozenset(sorted(holders, key=lambda one: (-holders[one], one.index))[:count])

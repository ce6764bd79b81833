"""What must hold of a run's draws and steps, whatever was done to it: pure but for `read`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.checkpoints import contents, snapshots
from oapl.records import State
from oapl.tracking import rollouts
from tests.support.run_files import steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Of a run that was stopped.

    Attributes:
        steps: Learner steps in metrics.jsonl, in their order.
        drawn: Draws that were ever made, by the buffer's own count.
        fates: Draws that have ended, by how.
        buffered, waiting: Groups that wait to be trained on, and draws to be made again.
        stored: How often each draw's rollouts stand among the stored groups.
        group_size: Rollouts of a draw.
        step: Learner steps at the checkpoint.
        groups_per_step: Of a learner step.
    """

    steps: tuple[int, ...]
    drawn: int
    fates: Mapping[str, int]
    buffered: int
    waiting: int
    stored: Mapping[str, int]
    group_size: int
    step: int
    groups_per_step: int

    def wrong(self) -> list[str]:
        """What does not hold, in words; nothing where all does."""
        found = []
        if self.steps != tuple(range(1, self.step + 1)):
            twice = [step for step, n in Counter(self.steps).items() if n > 1]
            found.append(f"steps to {self.step} are not each there once; twice: {twice[:9]}")
        if self.drawn != (parts := sum(self.fates.values()) + self.buffered + self.waiting):
            found.append(f"{self.drawn} draws were made, and {parts} are accounted for")
        trained, due = self.fates.get("trained", 0), self.step * self.groups_per_step
        if trained != due:
            found.append(f"{trained} draws were trained on, not {due} in {self.step} steps")
        if odd := {id: n for id, n in self.stored.items() if n != self.group_size}:
            found.append(f"{len(odd)} draws are not stored once: {[*odd.items()][:3]}")
        if len(self.stored) != trained:
            found.append(f"{len(self.stored)} draws are stored, {trained} were trained on")
        return found

    def __str__(self) -> str:
        ended = ", ".join(f"{number} {fate}" for fate, number in sorted(self.fates.items()))
        return (
            f"{self.drawn} drawn = {ended or '0 ended'} + {self.buffered} buffered + "
            f"{self.waiting} to be made again; {len(self.steps)} steps"
        )


def read(folder: Path, group_size: int, groups_per_step: int) -> Balance:
    """Of a run that stores all its groups, from its newest checkpoint and what it has written.

    Args:
        folder: The run's.
        group_size: `rollout.group_size`.
        groups_per_step: Groups of a learner step.
    """
    newest = snapshots.latest(folder / "checkpoints")
    assert newest is not None, f"{folder} has no checkpoint"
    state: State = contents.read_pickle(newest / contents.REPLAY)
    return Balance(
        steps=tuple(steps(folder)),
        **of_state(state),
        stored=Counter(row["id"] for row in rollouts.read(folder)),
        group_size=group_size,
        step=int(newest.name.partition("-")[2]),
        groups_per_step=groups_per_step,
    )


def of_state(state: State) -> dict[str, Any]:
    """The buffer's own accounts, of its snapshot."""
    fates: Counter[str] = Counter()
    for (kind, _), number in state["fates"].items():
        fates[kind] += number
    return {
        "drawn": state["drawn"],
        "fates": dict(fates),
        "buffered": len(state["buffer"]) + len(state["ahead"]),
        "waiting": len(state["queue"]) + len(state["in_flight"]),
    }

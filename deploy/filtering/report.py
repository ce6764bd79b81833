"""What each filter did: rows in and out, right and wrong ones, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deploy.filtering.choosing import Chosen
from oapl.groups_file import StoredGroup

REPORT = "_filter.json"
FINDINGS = "_findings-{:02d}-{}.jsonl"
"""Readers of a folder of Parquet files pass over names that begin with `_`."""


@dataclass(slots=True)
class Counts:
    """Groups, and right and wrong rollouts."""

    groups: int = 0
    positives: int = 0
    negatives: int = 0

    def add(self, group: StoredGroup, threshold: float) -> None:
        """Count a group.

        Args:
            group: With the rollouts that are there.
            threshold: A rollout is right where its reward is above this.
        """
        num_right = int(np.count_nonzero(group.rewards > threshold))
        self.groups += 1
        self.positives += num_right
        self.negatives += len(group.rewards) - num_right

    @property
    def rollouts(self) -> int:
        """Right and wrong ones together."""
        return self.positives + self.negatives

    def __str__(self) -> str:
        return f"{self.rollouts:,} = {self.positives:,} + {self.negatives:,}"


@dataclass(slots=True)
class Stage:
    """What has come to one filter, and what has passed it.

    Attributes:
        num_findings: Groups of which it told something.
    """

    chosen: Chosen
    came: Counts = field(default_factory=Counts)
    passed: Counts = field(default_factory=Counts)
    num_findings: int = 0


def write(folder: Path, source: Path, threshold: float, stages: Sequence[Stage]) -> None:
    """Write the table as JSON beside the shards of the result.

    Args:
        folder: The result.
        source: The set that was filtered.
        threshold: A rollout is right where its reward is above this.
        stages: In their order.
    """
    filters = [
        {
            "name": stage.chosen.name,
            "options": dict(stage.chosen.options),
            "in": _numbers(stage.came),
            "out": _numbers(stage.passed),
            "findings": stage.num_findings,
        }
        for stage in stages
    ]
    told = {"source": str(source), "threshold": threshold, "filters": filters}
    (folder / REPORT).write_text(json.dumps(told, indent=2, default=str) + "\n")


def _numbers(counts: Counts) -> dict[str, Any]:
    return {"groups": counts.groups, "rollouts": counts.rollouts, **asdict(counts)}


def show(folder: Path, stages: Sequence[Stage], console: Console) -> None:
    """Print the table; rollouts as their number = right ones + wrong ones.

    Args:
        folder: The result.
        stages: In their order.
        console: Where to print.
    """
    table = Table("filter", title="rollouts = right + wrong", title_style="dim")
    for column in ("groups in", "groups out", "rollouts in", "rollouts out"):
        table.add_column(column, justify="right")
    for stage in stages:
        came, passed = stage.came, stage.passed
        table.add_row(
            str(stage.chosen), f"{came.groups:,}", f"{passed.groups:,}", str(came), str(passed)
        )
    console.print(table)
    for number, stage in enumerate(stages):
        if stage.num_findings:
            file = folder / FINDINGS.format(number, stage.chosen.name)
            console.print(f"{stage.chosen.name}: {stage.num_findings} findings, see {file}")
    left = stages[-1].passed
    console.print(f"{folder}: {left.groups:,} groups, {left} rollouts", highlight=False)
    if not left.groups:
        console.print("nothing is left to train on: loosen the filters", style="red")

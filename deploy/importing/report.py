"""What an import has stored and what it has left out, in words and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from deploy.filtering.report import Counts
from deploy.importing.grouping import Skipped
from oapl.groups_file import Header, StoredGroup

REPORT = "_import.json"
"""Readers of a folder of Parquet files pass over names that begin with `_`."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What was done.

    Attributes:
        source: The file of traces.
        header: Of the set.
        threshold: A rollout is right where its reward is above this.
        skipped: Traces that were left out.
        left_out: Columns that differ within a group.
        stored: Groups, right and wrong rollouts.
        lone: Groups that had one trace.
    """

    source: Path
    header: Header
    threshold: float
    skipped: Skipped
    left_out: set[str]
    stored: Counts = field(default_factory=Counts)
    lone: int = 0

    def add(self, group: StoredGroup) -> None:
        """Count a group that is stored."""
        self.stored.add(group, self.threshold)
        self.lone += len(group.all_rewards) == 1

    def write(self, folder: Path) -> None:
        """Write it as JSON beside the shards."""
        told = {
            "source": str(self.source),
            "model": self.header.model,
            "logprobs": self.header.logprobs,
            "threshold": self.threshold,
            "traces": self.stored.rollouts + self.skipped.counts.total(),
            "rollouts": self.stored.rollouts,
            **asdict(self.stored),
            "lone": self.lone,
            "skipped": {
                reason: {"traces": count, "first": self.skipped.first[reason]}
                for reason, count in self.skipped.counts.most_common()
            },
            "columns_left_out": sorted(self.left_out),
        }
        (folder / REPORT).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")

    def show(self, folder: Path, console: Console) -> None:
        """Print it; rollouts as their number = right ones + wrong ones.

        Args:
            folder: The result.
            console: Where to print.
        """
        lines = [f"{folder}: {self.stored.groups:,} groups, {self.stored} rollouts (right + wrong)"]
        if self.lone:
            lines.append(
                f"lone traces, each a group: {self.lone:,}; objectives that compare within a group "
                "refuse them: use geometric, ppo, sft, or oapl with a column v_star"
            )
        if self.left_out:
            columns = ", ".join(sorted(self.left_out))
            lines.append(f"not stored, since they differ within a group: {columns}")
        if total := self.skipped.counts.total():
            lines.append(f"{total:,} traces skipped; of each reason the first:")
            lines += [
                f"  {reason}: {count:,}; {self.skipped.first[reason]}"
                for reason, count in self.skipped.counts.most_common()
            ]
        for line in lines:
            console.print(line, highlight=False, markup=False)

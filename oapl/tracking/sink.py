"""What a sink of the tracker is: `oapl.interfaces.Tracker`, taking no notice of anything.

A sink overrides what it shows or keeps. One file per sink; `tracker` hands everything to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl.records import StepMetrics


class Sink:
    """Takes everything and does nothing with it."""

    def log(self, metrics: StepMetrics) -> None:
        """Take the numbers of a learner step, or of an evaluation."""

    def message(self, text: str) -> None:
        """Take one line for the person who watches."""

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows that `RolloutStore` has just written."""

    def phase(self, name: str) -> None:
        """Take note that the run is now in `name`, one of `status.PHASES`, or over."""

    def made(self, groups: int, total: int) -> None:
        """Take note how many of the groups that are to be stored are there."""

    def alert(self, title: str, text: str) -> None:
        """Call a person; it was said as a message before."""

    def saved(self, checkpoint: Path, step: int) -> None:
        """Take note that a checkpoint of a learner step is whole."""

    def close(self) -> None:
        """Take no more."""

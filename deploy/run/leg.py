"""What of a run is done in one go: all of it, or one of its stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oapl.config.stages import Part, StagePlace
from oapl.interfaces import Tracker
from oapl.records import StepMetrics
from oapl.tracking.history import rows
from oapl.tracking.names import STEP
from oapl.tracking.status import DONE, HAND_OVER

MODEL = "model"
"""Folder of a trained policy."""
OTHER_NOISE = 1 << 24
"""More than the learner steps of a stage: engines of a later stage draw other samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What a train stage begins with beside the weights.

    Attributes:
        checkpoint: The last one of the train stage before it.
        keeps: What of it is not begun anew.
    """

    checkpoint: Path
    keeps: frozenset[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What is done in one go.

    Attributes:
        place: Where it stands among the stages; None where the run has none.
        folder: Its own, in the run folder: the trained policy and those kept beside it lie there.
        hand_over: What it takes over beside the weights, where it begins; None is nothing.
        patience: Evaluations in a row that may be no better than its best; 0 is any number.
        is_last: Nothing follows.
        evaluates: Its policy is evaluated at its end; else the stage that follows does that as it
            begins.
        sampled: Stages before it for which engines drew samples.
    """

    place: StagePlace | None = None
    folder: str = ""
    hand_over: HandOver | None = None
    patience: int = 0
    is_last: bool = True
    evaluates: bool = True
    sampled: int = 0

    @property
    def model(self) -> str:
        """Where in the run folder the trained policy is written."""
        return f"{self.folder}/{MODEL}" if self.folder else MODEL

    @property
    def first(self) -> int:
        """Learner steps that were made before it."""
        return 0 if self.place is None else self.place.first

    def noise(self, step: int) -> int:
        """The number that an engine's seed is made of, beside the run's own.

        Args:
            step: Learner steps made in this leg, or groups.
        """
        return OTHER_NOISE * self.sampled + step

    def end(self, *, is_over: bool) -> str:
        """The phase at its end, where no signal has stopped it.

        Args:
            is_over: Whether nothing of it is left to do.
        """
        return HAND_OVER if is_over and not self.is_last else DONE


WHOLE = Leg()
"""A run without stages."""


def mark(tracker: Tracker, folder: Path, leg: Leg) -> None:
    """Note in the metrics where a stage begins, unless that is there; nothing without stages.

    Args:
        tracker: Takes the line.
        folder: The run's.
        leg: Of the stage.
    """
    if leg.place is None:
        return
    values = {"stage/number": float(leg.place.number)}
    line = {STEP: leg.first, **values}
    if not any(line.items() <= row.items() for row in rows(folder)):
        tracker.log(StepMetrics(step=leg.first, values=values))

"""When a stage of a run ends before its steps are made: by what evaluations say, or by hand.

Invariants: it ends between two iterations; what decides it is in the checkpoint, so that a resumed
stage ends where it would have; a request by hand names the stage that it is for, and so ends no
other one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from learner.checkpoints.contents import STAGE_NAME
from learner.standstill import Standstill
from oapl.records import Metrics, State

REQUEST = "next-stage"
"""A file of this name in the run folder asks for the end of the stage that it names."""


class MovingOn:
    """Sees evaluations and requests, and ends the stage once.

    Args:
        stage: Its name.
        patience: Evaluations in a row that may be no better than the best; 0 is any number.
        folder: The run's.

    Attributes:
        cause: Why the stage ends, in words; empty while it does not.
    """

    def __init__(self, stage: str, patience: int, folder: Path) -> None:
        self._stage = stage
        self._standstill = Standstill(patience)
        self._request = folder / REQUEST
        self._end: Callable[[], None] = lambda: None
        self.cause = ""

    def begin(self, end: Callable[[], None]) -> None:
        """Watch from now on.

        Args:
            end: Called when the stage ends, once, perhaps at once.
        """
        self._end = end
        self.look()

    def saw_evaluation(self, metrics: Metrics) -> None:
        """Take in the metrics of an evaluation of this stage."""
        self._standstill.saw(metrics)

    def look(self) -> None:
        """End the stage if there is a cause: asked between two iterations."""
        if self.cause:
            return
        self.cause = self._standstill.cause or self._asked()
        if self.cause:
            self._end()

    def _asked(self) -> str:
        try:
            asked = self._request.read_text().strip()
        except FileNotFoundError:
            return ""
        return "asked for by hand" if asked == self._stage else ""

    def state(self) -> State:
        """What decides when the stage ends."""
        return {STAGE_NAME: self._stage, **self._standstill.state()}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._standstill.restore(state)

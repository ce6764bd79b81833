"""Whether evaluations still get better: what resets the reference, and ends a stage."""

from __future__ import annotations

from oapl.evaluation import score_of
from oapl.records import Metrics, State


class Standstill:
    """Sees evaluations, and says when as many in a row were in vain as are put up with.

    Args:
        patience: Evaluations that are no better than the best so far; 0 is any number.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best: float | None = None
        self._in_vain = 0

    def saw(self, metrics: Metrics) -> None:
        """Take in the metrics of an evaluation; see `oapl.evaluation.summary.score_of`."""
        score = score_of(metrics)
        if score is None:
            return
        if self._best is None or score > self._best:
            self._best, self._in_vain = score, 0
        else:
            self._in_vain += 1

    @property
    def cause(self) -> str:
        """What has come about, in words; empty while it has not."""
        if not self._patience or self._in_vain < self._patience:
            return ""
        return f"{self._in_vain} evaluations no better than {self._best:.3f}"

    def forget(self) -> None:
        """Begin anew: the next evaluation is the best so far."""
        self._best, self._in_vain = None, 0

    def state(self) -> State:
        """What decides when it comes about."""
        return {"best": self._best, "in_vain": self._in_vain}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._best, self._in_vain = state["best"], state["in_vain"]

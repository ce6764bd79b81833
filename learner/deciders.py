"""All that decides by what a run shows of itself: when the reference is set anew, which policies
are kept, when a stage ends, and what alarms do.

Invariants: each sees every line and every evaluation, in their order; what decides is in the
checkpoint, so that a resumed run decides as it would have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from learner.alarming import Alarming
from learner.checkpoints import contents
from learner.kept_models import KeptModels
from learner.resets import Resets
from learner.surroundings import Stage
from oapl.accounting import Row
from oapl.config import RunConfig
from oapl.config.objective import History
from oapl.interfaces import Tracker
from oapl.records import CreditedGroup, Metrics, State


class Deciders:
    """Gives lines and scores to each of them.

    Args:
        config: The run's.
        tracker: Is told of alarms, and of policies that are kept.
        save: Writes the present policy into a folder.
        history: What the objective declares.
        stage: Of the run.

    Attributes:
        resets: Of the reference.
        kept: Policies.
    """

    def __init__(
        self,
        config: RunConfig,
        tracker: Tracker,
        save: Callable[[Path], Awaitable[None]],
        *,
        history: History | None,
        stage: Stage,
    ) -> None:
        self._first = stage.first
        self._moving = stage.moving
        self._end: Callable[[], None] = lambda: None
        self.resets = Resets(config.reference, config.folder, history, config.steps_per_take)
        self.kept = KeptModels(
            config, save, tracker.message, folder=stage.keeps_in or config.folder
        )
        acts = {"stop": lambda _: self._end(), "reset_reference": self.resets.ask}
        self._alarms = Alarming(config, tracker, acts, _own_lines(stage))

    def ends_by(self, end: Callable[[], None]) -> None:
        """Say what an alarm calls that shall stop the run, between two iterations."""
        self._end = end

    def saw_line(self, step: int, line: Metrics, groups: Sequence[CreditedGroup]) -> Metrics:
        """Take in the line of a learner step.

        Args:
            step: Learner steps of this stage.
            line: Its metrics.
            groups: What the step was made of.

        Returns:
            What alarms add to it.
        """
        self.resets.saw_step(line)
        return self._alarms.saw(self._first + step, line, groups)

    def saw_evaluation(self, step: int, metrics: Metrics) -> None:
        """Take in the scores of the weights of a learner step of this stage."""
        self.resets.saw_evaluation(metrics)
        self.kept.saw_evaluation(self._first + step, metrics)
        if self._moving is not None:
            self._moving.saw_evaluation(metrics)
            self._moving.look()

    def look(self) -> None:
        """End the stage if there is a cause: between two iterations."""
        if self._moving is not None:
            self._moving.look()

    def state(self) -> State:
        """What decides, as JSON can hold it."""
        found: State = {"resets": self.resets.state(), "kept": self.kept.state()}
        return found if self._moving is None else {**found, contents.STAGE: self._moving.state()}

    def restore(self, state: State, step: int) -> None:
        """Go on from what `state` gave.

        Args:
            state: It may hold more.
            step: Learner steps of this stage that were made then.
        """
        self.resets.restore(state["resets"])
        self.kept.restore(state.get("kept", {}))
        self.kept.begins(self._first + step)
        if self._moving is not None and contents.STAGE in state:
            self._moving.restore(state[contents.STAGE])


def _own_lines(stage: Stage) -> list[Row]:
    """Those of this stage's learner steps."""
    rows = stage.past.rows if stage.past else ()
    return [row for row in rows if (row["step"] or 0) > stage.first and "time/step_s" in row]

"""When the reference policy is set anew: by schedule, by what evaluations say, by its KL, by an
alarm, by hand, and once where an objective ends its mixing of history: its reincarnation.

Invariant: what is asked for takes effect between two iterations, once, and is told; what decides it
is in the checkpoint, so that a resumed run resets when it would have.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from learner.standstill import Standstill
from oapl.config.objective import History
from oapl.config.sections import ReferenceSection
from oapl.records import Metrics, State

REQUEST = "reset-reference"
"""A file of this name in the run folder asks for a reset."""
KL = "policy/reference_kl"


class Resets:
    """Sees steps and evaluations, and says when a reset is due.

    Args:
        rules: The run's section.
        folder: The run's.
        history: What the objective declares.
        steps_per_take: Learner steps of an iteration.
    """

    def __init__(
        self,
        rules: ReferenceSection,
        folder: Path,
        history: History | None = None,
        steps_per_take: int = 1,
    ) -> None:
        self._rules = rules
        self._iterations = history.until if history else 0  # before the reincarnation; 0 is never
        self._rebirth = self._iterations * steps_per_take
        self._is_reborn = False
        self._request = folder / REQUEST
        self._asked = ""
        self._last = 0
        self._standstill = Standstill(rules.patience)
        self._kl = 0.0

    def saw_step(self, metrics: Metrics) -> None:
        """Take in the metrics of a learner step."""
        self._kl = metrics.get(KL, 0.0)

    def saw_evaluation(self, metrics: Metrics) -> None:
        """Take in the metrics of an evaluation."""
        self._standstill.saw(metrics)

    def ask(self, cause: str) -> None:
        """Ask for a reset before the next iteration, for a cause in words."""
        self._asked = cause

    def due(self, step: int) -> str:
        """Tell why a reset is due before the iteration that begins at a learner step.

        Args:
            step: Learner steps made.

        Returns:
            The cause in words; empty if none is due.
        """
        rules = self._rules
        if self._request.exists():
            return "asked for by hand"
        if self._asked:
            return self._asked
        if rules.reset_every and step - self._last >= rules.reset_every:
            return f"reference.reset_every = {rules.reset_every}"
        if cause := self._standstill.cause:
            return cause
        if rules.max_kl and self._kl > rules.max_kl:
            return f"KL of {self._kl:.4f} above reference.max_kl = {rules.max_kl:g}"
        return ""

    def reincarnation(self, step: int) -> str:
        """Tell whether a reincarnation is due, after which the optimizer goes on as it was.

        Args:
            step: Learner steps made.

        Returns:
            The cause in words; empty if none is due.
        """
        is_due = self._rebirth and step >= self._rebirth and not self._is_reborn
        return f"reincarnation after {self._iterations} iterations" if is_due else ""

    def done(self, step: int) -> None:
        """Note that the reference was set anew at a learner step."""
        self._is_reborn = bool(self._rebirth) and step >= self._rebirth
        self._last, self._kl, self._asked = step, 0.0, ""
        self._standstill.forget()
        with contextlib.suppress(FileNotFoundError):
            self._request.unlink()

    def state(self) -> State:
        """What decides the next reset."""
        return {
            "last": self._last,
            **self._standstill.state(),
            "kl": self._kl,
            "reborn": self._is_reborn,
            "asked": self._asked,
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._last, self._kl = state["last"], state["kl"]
        self._standstill.restore(state)
        self._is_reborn = state["reborn"]
        self._asked = state.get("asked", "")  # which checkpoints of an earlier build have not

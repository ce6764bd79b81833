"""A run's attempts: what stays when all its processes end and are started again."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.run.leg import WHOLE, Leg
from deploy.run.restarts import Failures
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.errors import DiedError, LostError, RankError
from oapl.interfaces import Tracker
from oapl.records import Prompt
from oapl.tracking.restarts import Record, silent
from oapl.tracking.status import RESTART


@dataclass(slots=True)
class Attempts:
    """What a run knows of its attempts.

    Attributes:
        restarts: How often all may be started again, by the part that failed.
        resume: The checkpoint to go on from; None for the beginning.
        setting: `checkpoint.resume`, as it was written.
        trials: Prompts that verifiers are tried on before each of them.
        leg: What of the run they are at.
        failures: Attempts at this leg that ended with the loss of what cannot be replaced alone.
        uncounted: Those since the line of metrics that counts them and is kept was written, by
            what was lost.
        pause_s: How long the next one waits.
        record: Takes note of each restart.
        seconds: Wall time by phase, of all attempts.
        began: When the first one began, by the monotonic clock.
        since: When the present one did: where another one has failed before it, when that ended.
    """

    restarts: Mapping[str, Failures]
    resume: Path | None
    setting: str = "auto"
    trials: Sequence[Prompt] = ()
    leg: Leg = WHOLE
    failures: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)
    pause_s: float = 0.0
    record: Record = silent
    _raised: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)

    @property
    def step(self) -> int:
        """Learner steps of the run made before the next attempt."""
        return self.leg.first if self.resume is None else resuming.step_of(self.resume)

    @property
    def next(self) -> str:
        """What the same command does when this one has ended now."""
        if self.resume is None:
            what = f"{self.leg.place} " if self.leg.place else ""
            return f"the same command begins {what}anew: there is no checkpoint yet"
        what = f"resumes from {self.resume.parent.name}/{self.resume.name}"
        without = "" if self.setting == "auto" else " without checkpoint.resume"
        return f"the same command{without} {what}"

    def saved(self, checkpoint: Path | None) -> None:
        """Note the last checkpoint of an attempt: what was counted before it is not made again."""
        if checkpoint is not None and checkpoint != self.resume:
            self.resume, self.uncounted = checkpoint, Counter()

    def take_another(self, why: Exception, tracker: Tracker, lived_s: float = 0.0) -> bool:
        """Decide what follows a failed attempt.

        Args:
            why: What ended it.
            tracker: Is told when all is to be started again.
            lived_s: From the attempt's beginning until then.

        Returns:
            Whether it is: only after a loss that a checkpoint makes good, as often as the policy
            of what was lost allows, and not when a rank raised the same at the same step again.
        """
        if not isinstance(why, LostError):
            return False
        if self._is_met_again(why):
            return False
        failures = self.restarts[why.part]
        failures.add(lived_s)
        self.failures += 1
        self.uncounted[why.kind] += 1
        if failures.are_too_many:
            return False
        self.pause_s = failures.pause_s
        start = str(self.leg.place) if self.leg.place else "the beginning"
        place = start if self.resume is None else self.resume.name
        self.record(why.kind, str(why))
        tracker.phase(RESTART)
        tracker.message(
            f"{why}; starting all processes again from {place}, "
            f"{failures.left} restarts left ({failures.setting})"
        )
        return True

    def _is_met_again(self, why: LostError) -> bool:
        before, self._raised = self._raised, ""
        cause = why.__cause__ if isinstance(why, RankError) else None
        if cause is None or isinstance(cause, DiedError):
            return False  # it hung or died: of something outside, perhaps
        self._raised = str(why)
        if self._raised != before:
            return False
        why.add_note("it was the same the time before, so that another start would meet it again")
        return True

    def ends_at(self, config: RunConfig) -> float:
        """When `run.max_hours` are over, by the monotonic clock; infinity where it is 0."""
        hours = config.run.max_hours
        return self.began + 3600 * hours if hours else math.inf

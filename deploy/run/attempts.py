"""A run's attempts: what stays when all its processes end and are started again."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.run.leg import WHOLE, Leg
from deploy.run.restarts import RestartPolicy
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.errors import RankError
from oapl.interfaces import Tracker
from oapl.records import Prompt
from oapl.tracking.status import RESTART


@dataclass(slots=True)
class Attempts:
    """What a run knows of its attempts.

    Attributes:
        policy: How often all may be started again.
        resume: The checkpoint to go on from; None for the beginning.
        setting: `checkpoint.resume`, as it was written.
        trials: Prompts that verifiers are tried on before each of them.
        leg: What of the run they are at.
        failures: Attempts that ended with the failure of a rank.
        uncounted: Those since the line of metrics that counts them and is kept was written.
        seconds: Wall time by phase, of all attempts.
        began: When the first one began, by the monotonic clock.
        since: When the present one did: where another one has failed before it, when that ended.
    """

    policy: RestartPolicy
    resume: Path | None
    setting: str = "auto"
    trials: Sequence[Prompt] = ()
    leg: Leg = WHOLE
    failures: int = 0
    uncounted: int = 0
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
            self.resume, self.uncounted = checkpoint, 0

    def take_another(self, why: Exception, tracker: Tracker) -> bool:
        """Decide what follows a failed attempt.

        Args:
            why: What ended it.
            tracker: Is told when all is to be started again.

        Returns:
            Whether it is: only after the failure of a rank, and as often as the policy allows.
        """
        if not isinstance(why, RankError):
            return False
        self.failures += 1
        self.uncounted += 1
        if self.policy.gives_up(self.failures):
            return False
        start = str(self.leg.place) if self.leg.place else "the beginning"
        place = start if self.resume is None else self.resume.name
        tracker.phase(RESTART)
        tracker.message(
            f"{why}; starting all processes again from {place}, "
            f"{self.policy.max_restarts - self.failures} restarts left ({self.policy.setting})"
        )
        return True

    def ends_at(self, config: RunConfig) -> float:
        """When `run.max_hours` are over, by the monotonic clock; infinity where it is 0."""
        hours = config.run.max_hours
        return self.began + 3600 * hours if hours else math.inf

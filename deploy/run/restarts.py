"""Counts failures by the policy of the part that failed (`[restarts]`), and says what follows.

Pure: times in, decisions out.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

from oapl.config import RunConfig
from oapl.config.restarts import PausingPolicy, RestartPolicy


class Failures:
    """Those of one part that still count.

    Args:
        policy: What is done about them.
        part: Its key in `[restarts]`.
        now: The monotonic clock.
    """

    def __init__(
        self, policy: RestartPolicy, part: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy = policy
        self.setting = f"restarts.{part}.max_restarts"
        self._now = now
        self._times: list[float] = []

    def add(self, lived_s: float = 0.0) -> None:
        """Count one.

        Args:
            lived_s: From its last start until it failed.
        """
        if 0 < self.policy.forgiven_after_s < lived_s:
            self._times.clear()
        self._times.append(self._now())

    @property
    def number(self) -> int:
        """How many count now."""
        oldest = self._now() - (self.policy.window_s or math.inf)
        return sum(at >= oldest for at in self._times)

    @property
    def left(self) -> int:
        """Starts that may still follow; below 0 where one failure was too many."""
        return self.policy.max_restarts - self.number

    @property
    def are_too_many(self) -> bool:
        """Whether no start follows the last one."""
        return self.left < 0

    @property
    def limit(self) -> str:
        """What they were more than, in words."""
        window = self.policy.window_s
        within = f" within {window:g} s" if window else ""
        return f"{self.policy.max_restarts} times{within} ({self.setting})"

    @property
    def pause_s(self) -> float:
        """How long the next start waits."""
        if not isinstance(self.policy, PausingPolicy) or self.number < 2:
            return 0.0
        pause_s: float = self.policy.first_pause_s * 2.0 ** min(self.number - 2, 60)
        return min(pause_s, self.policy.longest_pause_s)


def of_the_run(config: RunConfig) -> dict[str, Failures]:
    """Those of what takes the run back to its last checkpoint, by the part that fails.

    In `cluster.mode = "local"` all is one process, and nothing follows.
    """
    parts = {"rank": config.restarts.rank, "replay": config.restarts.replay}
    if config.cluster.mode == "local":
        parts = {part: dataclasses.replace(one, max_restarts=0) for part, one in parts.items()}
    return {part: Failures(policy, part) for part, policy in parts.items()}

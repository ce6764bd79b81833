"""Entropy: the policy has become sure of itself, and no longer gets better.

A policy that learns becomes surer too, so it is not told while the reward rises, nor where most
groups are all right.
"""

from __future__ import annotations

from oapl.alarms.base import SOLVED, Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._share = config.entropy
        self._entropy = Window("policy/entropy", config.window)
        self._reward = Window("reward/mean", config.window)
        self._right = Window("reward/uniform_right_groups", config.window)

    def see(self, line: Line) -> str:
        """Compare the entropy with that of the first steps."""
        for window in (self._reward, self._right):
            window.add(line)
        if not self._entropy.add(line):
            return ""
        first, last = self._entropy.first, self._entropy.last
        is_rising = self._reward.last > self._reward.before
        if last >= self._share * first or is_rising or self._right.last >= SOLVED:
            return ""
        return (
            f"the entropy fell from {first:.3g} to {last:.3g} nats a token (alarms.entropy = "
            f"{self._share:g} of the first), and the reward no longer rises: "
            f"{self._reward.last:.3g}"
        )


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The one whose tokens were the surest; one without recorded log-probs shows nothing."""
    logprobs = rollout.inference_logprobs
    return float(logprobs.mean()) if logprobs is not None and len(logprobs) else float("-inf")

"""Endings: responses are cut off more and more often while the reward falls: the policy no longer
ends them.

Source: the second model collapse of Perplexity's report (end of sequence): cut-off rate up, reward
down.
"""

from __future__ import annotations

from oapl.alarms.base import Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout

FALL = 0.2
"""Of the reward below its highest mean, in standard deviations of the rewards."""


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._rise = config.endings
        self._cut_off = Window("rollout/truncated_rate", config.window)
        self._reward = Window("reward/mean", config.window)
        self._spread = Window("reward/std", config.window)

    def see(self, line: Line) -> str:
        """Compare the rise of the cut-off rate with the threshold, while the reward has fallen."""
        is_known = [window.add(line) for window in (self._cut_off, self._reward, self._spread)]
        if not all(is_known) or not self._rise:
            return ""
        rise = self._cut_off.last - self._cut_off.lowest
        fall = self._reward.highest - self._reward.last
        if rise <= self._rise or fall <= FALL * self._spread.highest:
            return ""
        return (
            f"{self._cut_off.last:.0%} of the responses are cut off, {rise:.0%} more than at best "
            f"(alarms.endings = {self._rise:g}), while the reward fell from "
            f"{self._reward.highest:.3g} to {self._reward.last:.3g}"
        )


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The longest that was cut off."""
    return len(rollout.token_ids) * float(rollout.is_truncated)

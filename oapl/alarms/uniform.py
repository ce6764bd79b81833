"""Uniform: the rewards within nearly every group are equal, so that there is nothing to compare,
and they are not all right.

Source: Perplexity's report, limitations: groups that are all wrong, or all right, teach nothing.
"""

from __future__ import annotations

from oapl.alarms.base import SOLVED, Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._most = config.uniform
        self._uniform = Window("reward/uniform_groups", config.window)
        self._right = Window("reward/uniform_right_groups", config.window)

    def see(self, line: Line) -> str:
        """Compare the share of such groups with the threshold."""
        is_known = [window.add(line) for window in (self._uniform, self._right)]
        if not all(is_known) or not 0 < self._most < self._uniform.last:
            return ""
        if self._right.last >= SOLVED:
            return ""
        return (
            f"in {self._uniform.last:.0%} of the groups all rewards are equal (alarms.uniform = "
            f"{self._most:g}), in {self._right.last:.0%} all are right"
        )


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The longest: a group's rollouts are alike in their reward."""
    return float(len(rollout.token_ids))

"""Length: responses have become short, and were not the better for it.

Source: Perplexity's report, reward shaping: the length falls under a penalty on it while accuracy
stays low.
"""

from __future__ import annotations

import math

from oapl.alarms.base import Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._share = config.length
        self._length = Window("rollout/length_mean", config.window)
        self._reward = Window("reward/mean", config.window)
        self._then = math.nan  # the reward when responses were longest

    def see(self, line: Line) -> str:
        """Compare the length with the longest mean so far, and the reward with that of then."""
        self._reward.add(line)
        if not self._length.add(line):
            return ""
        longest, last = self._length.highest, self._length.last
        if last == longest:
            self._then = self._reward.last
        if last >= self._share * longest or self._reward.last > self._then:
            return ""
        return (
            f"responses have {last:.0f} tokens, and had {longest:.0f} (alarms.length = "
            f"{self._share:g} of it), at a reward of {self._reward.last:.3g}, then {self._then:.3g}"
        )


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The shortest."""
    return -float(len(rollout.token_ids))

"""What the alarms share: what a file here declares, and means over windows of learner steps.

An alarm reads the flat metrics of one learner step after the other and says what is wrong, in
words. Invariants: it keeps a few windows of numbers and nothing else, so that reading the lines of
a run again brings it to where it was; what was not measured is passed over.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from oapl.config.kinds import Kind
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout

SOLVED = 0.5
"""Share of groups with all rewards equal and above 0 from which a run has learned its data: then
little entropy and equal rewards are what was wanted."""

Line = Mapping[str, float | None]


class Alarm(Protocol):
    """One alarm of one run."""

    def see(self, line: Line) -> str:
        """Take in a learner step's metrics; what is wrong now, in words, or nothing."""


class AlarmFile(Protocol):
    """A file of `oapl/alarms/`; its name is the alarm's."""

    def build(self, config: AlarmsSection) -> Alarm:
        """Make the alarm, with nothing seen yet."""

    def shows(self, rollout: Rollout) -> float:
        """How well a rollout shows what is wrong: that of the largest number is kept."""


ALARMS: Kind[AlarmFile] = Kind("oapl.alarms", AlarmFile)


class Window:
    """Means of a metric over so many learner steps that have it.

    Args:
        name: The metric's.
        size: Steps of a mean.

    Attributes:
        first: Mean of the first `size` steps; NaN until there were as many.
        last: That of the last ones.
        before: That of those before the last.
        lowest, highest: Of all means so far.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._values: deque[float] = deque(maxlen=2 * size)
        self.first = self.last = self.before = self.lowest = self.highest = math.nan

    def add(self, line: Line) -> bool:
        """Take in a step; returns whether it has the metric, and there were enough for a mean."""
        value = line.get(self._name)
        if value is None or not math.isfinite(value):
            return False
        self._values.append(value)
        if len(self._values) < self._size:
            return False
        values = list(self._values)
        self.last = statistics.fmean(values[-self._size :])
        if math.isnan(self.first):
            self.first = self.lowest = self.highest = self.last
        self.lowest = min(self.lowest, self.last)
        self.highest = max(self.highest, self.last)
        if len(values) == 2 * self._size:
            self.before = statistics.fmean(values[: self._size])
        return True

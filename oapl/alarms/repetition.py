"""Repetition: responses repeat themselves, or end going round in circles.

Source: the first model collapse of Perplexity's report (self-repetition, empty tag blocks at the
end).
"""

from __future__ import annotations

from oapl.alarms.base import Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout
from oapl.repetition import repetition_rate

FORMS = {
    "rollout/repetition_rate": "of the 4-grams of a response stood in it before",
    "rollout/loop_rate": "of the responses end in a block that comes again and again",
}


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._most = config.repetition
        self._windows = {form: Window(form, config.window) for form in FORMS}

    def see(self, line: Line) -> str:
        """Compare both means with the threshold."""
        for form, window in self._windows.items():
            if window.add(line) and 0 < self._most < window.last:
                return f"{window.last:.0%} {FORMS[form]} (alarms.repetition = {self._most:g})"
        return ""


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The one that repeats itself most."""
    return repetition_rate(rollout.token_ids)

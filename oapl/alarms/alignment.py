"""Alignment: engine and learner give different log-probs for the same tokens under equal weights.

Read from the probe after each publication, and from learner steps on rollouts of the very weights
that are trained (lag 0).

Source: Perplexity's report, implementation details: mean exp(|difference|) within 1 to 1.05.
"""

from __future__ import annotations

from oapl.alarms.base import Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout

PROBES = 3
"""Readings of a mean: a probe is of a few tokens."""


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._most = config.alignment
        self._probe = Window("weights/probe", PROBES)
        self._ratio = Window("policy/prob_ratio", PROBES)

    def see(self, line: Line) -> str:
        """Compare both means with the threshold."""
        found = {"probes": self._probe.last if self._probe.add(line) else 0.0}
        if line.get("replay/lag_max") == 0 and self._ratio.add(line):
            found["training steps at lag 0"] = self._ratio.last
        for of, value in found.items():
            if 0 < self._most < value:
                return (
                    f"engine and learner disagree at equal weights: {value:.4g} over the last "
                    f"{of} (alarms.alignment = {self._most:g}; 1 is perfect)"
                )
        return ""


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The longest: differences add up along a response."""
    return float(len(rollout.token_ids))

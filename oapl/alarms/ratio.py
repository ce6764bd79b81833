"""Ratio: the policy runs away from the one that sampled, or did so all at once.

Told by the KL (k3), which grows with the ratios: mean exp(|ln pi - ln pi_vllm|) is no measure of
it, since a single token that the policy no longer writes makes it as large as one likes.

Source: OAPL, arXiv 2602.19362, section 2: a KL between engine and trainer that grows suddenly comes
before a collapse.
"""

from __future__ import annotations

from collections import deque

from oapl.alarms.base import Line, Window
from oapl.config.sections import AlarmsSection
from oapl.records import Rollout

GROWTH = 10.0
"""A step's KL over the largest of the window before it."""
LEAST_KL = 0.01
"""Nats a token: below it a KL may grow as it likes."""
KL = "policy/policy_kl"


class Alarm:
    """See `oapl.alarms.base.Alarm`."""

    def __init__(self, config: AlarmsSection) -> None:
        self._most = config.ratio
        self._kl = Window(KL, config.window)
        self._size = config.window
        self._divergences: deque[float] = deque(maxlen=self._size)

    def see(self, line: Line) -> str:
        """Compare the mean KL with the threshold, and this step's with those before."""
        is_known = self._kl.add(line)
        growth = self._growth(line.get(KL))
        if not self._most:
            return ""
        if is_known and self._kl.last > self._most:
            return (
                f"the KL to what sampled is {self._kl.last:.3g} nats a token (alarms.ratio = "
                f"{self._most:g})"
            )
        return growth

    def _growth(self, now: float | None) -> str:
        if now is None:
            return ""
        before = list(self._divergences)
        self._divergences.append(now)
        if len(before) < self._size or now < max(GROWTH * max(before), LEAST_KL):
            return ""
        return (
            f"the KL to what sampled grew to {now:.3g} nats a token, from at most {max(before):.3g}"
        )


def build(config: AlarmsSection) -> Alarm:
    """See `oapl.alarms.base.AlarmFile`."""
    return Alarm(config)


def shows(rollout: Rollout) -> float:
    """The one whose tokens were the least likely; one without recorded log-probs shows nothing."""
    logprobs = rollout.inference_logprobs
    return -float(logprobs.mean()) if logprobs is not None and len(logprobs) else float("-inf")

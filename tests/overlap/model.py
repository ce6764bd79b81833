"""The event simulation of one learner and one engine: what idle times follow from durations alone.

Unit: one learner step. It knows the rules of publication and hand-out, and nothing of processes,
messages or loads, which take no time here. Source of the rules: Algorithm 1 of OAPL (arXiv
2602.19362), with `replay.surplus` and `sync.max_lead` as `oapl.config` describes them.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

GROUPS_PER_STEP = 16
SIGMA = 0.6
"""Spread of the logarithm of a group's duration."""
CUT = 4.0
"""Longest duration, in means."""
SLOT_SHARE = 1.05
"""Groups that an engine can make at a time, over what the learner eats while one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run: mean duration of a group in learner steps, L, and what to do about idle time."""

    mean: float
    interval: int
    surplus: float = 0.0
    max_lead: int = 0

    @property
    def slots(self) -> int:
        return round(SLOT_SHARE * GROUPS_PER_STEP * self.mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Where the time of a run went, and how old its batches were.

    Attributes:
        learner: Idle share of the learner's time.
        between: Of that time, what is neither a step nor a wait for groups: messages.
        engine: Idle share of the engine's slots.
        wasted: Share of slot time, or of tokens, that was thrown away.
        mean_lag, largest_lag: Of the groups trained on, in learner steps.
        elapsed: How long the run took, its first period included, in learner steps.
    """

    learner: float
    between: float
    engine: float
    wasted: float
    mean_lag: float
    largest_lag: int
    elapsed: float


def duration(mean: float, draw: int, attempt: int, seed: int = 0) -> float:
    """How long the `attempt`th try of a draw takes: lognormal with this mean, cut at 4 of it."""
    normal = float(np.random.default_rng([seed, draw, attempt]).normal())
    return min(mean * math.exp(SIGMA * normal - SIGMA**2 / 2), CUT * mean)


@dataclass(slots=True)
class _Slot:
    draw: int
    attempt: int
    begun: float


class Simulation:
    """One run of `steps` learner steps, measured from the end of the first period on."""

    def __init__(self, setting: Setting, steps: int, seed: int = 0) -> None:
        self._setting, self._steps, self._seed = setting, steps, seed
        self._now = 0.0
        self._step = self._version = self._begin = 0
        self._events: list[tuple[float, int, int, int]] = []  # time, draw or -1, attempt, version
        self._slots: dict[int, _Slot] = {}
        self._returned: deque[tuple[int, int]] = deque()
        self._num_drawn = 0
        self._buffer: list[tuple[int, int, float]] = []  # draw, attempt, seconds
        self._ahead: list[tuple[int, int, float]] = []
        self._buffer_version = 0
        self._is_training = False
        self._busy = self._wasted = self._measured_from = 0.0
        self._largest_lag = self._lags = 0

    def run(self) -> Shares:
        self._proceed()
        while self._step < self._steps:
            time, draw, attempt, version = heapq.heappop(self._events)
            before, self._now = self._now, time
            if self._step >= self._setting.interval:
                self._busy += len(self._slots) * (self._now - before)
            if draw < 0:
                self._end_step()
            elif version == self._version and draw in self._slots:
                self._end_group(draw, attempt)
            self._proceed()
        elapsed = self._now - self._measured_from
        slot_time = elapsed * self._setting.slots
        return Shares(
            learner=1 - (self._steps - self._setting.interval) / elapsed,
            between=0.0,
            engine=1 - self._busy / slot_time,
            wasted=self._wasted / self._busy,
            mean_lag=self._lags / (self._steps - self._setting.interval),
            largest_lag=self._largest_lag,
            elapsed=self._now,
        )

    def _end_group(self, draw: int, attempt: int) -> None:
        slot = self._slots.pop(draw)
        kept = self._ahead if self._begin > self._step else self._buffer
        kept.append((draw, attempt, self._now - slot.begun))

    def _end_step(self) -> None:
        self._is_training = False
        self._step += 1
        if self._step == self._setting.interval:
            self._measured_from = self._now
        if self._step == self._begin:
            self._buffer, self._ahead = self._ahead, []
            self._buffer_version = self._version
        elif self._step % self._setting.interval == 0:
            self._publish(self._step, keep=0)
            self._buffer_version = self._version

    def _proceed(self) -> None:
        """The engine fills its slots; the learner begins a step, and leads, when it can."""
        self._fill()
        if self._is_training or len(self._buffer) < GROUPS_PER_STEP:
            return
        self._buffer = self._buffer[GROUPS_PER_STEP:]
        self._is_training = True
        lag = self._step - self._buffer_version
        self._largest_lag = max(self._largest_lag, lag)
        self._lags += lag if self._step >= self._setting.interval else 0
        heapq.heappush(self._events, (self._now + 1.0, -1, 0, 0))
        self._lead()
        self._fill()

    def _lead(self) -> None:
        interval = self._setting.interval
        following = (self._step // interval + 1) * interval
        untrained = following - self._step
        keep = GROUPS_PER_STEP * (untrained - 1)
        if (
            untrained <= self._setting.max_lead
            and self._begin <= self._step
            and self._version < self._step
            and len(self._buffer) >= keep
        ):
            self._publish(following, keep)

    def _publish(self, begin: int, keep: int) -> None:
        cleared, self._buffer = self._buffer[keep:], self._buffer[:keep]
        aborted = [(slot.draw, slot.attempt + 1) for slot in self._slots.values()]
        if self._step > self._setting.interval:  # what the first period threw away is not measured
            self._wasted += sum(seconds for _, _, seconds in cleared)
            self._wasted += sum(self._now - slot.begun for slot in self._slots.values())
        again = aborted + [(draw, attempt + 1) for draw, attempt, _ in cleared]
        self._returned.extendleft(reversed(again))
        self._slots.clear()
        self._version, self._begin = self._step, begin

    def _fill(self) -> None:
        interval = self._setting.interval
        extra = math.ceil(self._setting.surplus * GROUPS_PER_STEP * interval - 1e-9)
        left = self._begin + interval - max(self._step, self._begin)
        leased = GROUPS_PER_STEP if self._is_training else 0
        kept = len(self._ahead) if self._begin > self._step else len(self._buffer) + leased
        need = GROUPS_PER_STEP * left + extra - kept - len(self._slots)
        for _ in range(min(need, self._setting.slots - len(self._slots))):
            draw, attempt = self._next_draw()
            self._slots[draw] = _Slot(draw, attempt, self._now)
            ends = self._now + duration(self._setting.mean, draw, attempt, self._seed)
            heapq.heappush(self._events, (ends, draw, attempt, self._version))

    def _next_draw(self) -> tuple[int, int]:
        if self._returned:
            return self._returned.popleft()
        self._num_drawn += 1
        return self._num_drawn, 0


def simulate(setting: Setting, steps: int, seed: int = 0) -> Shares:
    """Idle shares of a run of `steps` learner steps, without its first period."""
    return Simulation(setting, steps, seed).run()

"""The event simulation of one learner and its engines: what follows from rates alone.

It knows the rules of publication and hand-out, and nothing of processes. Engines count as one pool,
whose rollouts are evenly spread over it and advance together; work done by one of them since the
beginning is the pool's clock, and a group ends when that clock has passed its longest rollout.
Source of the rules: Algorithm 1 of OAPL (arXiv 2602.19362), with `replay.surplus` and
`sync.max_lead` as `oapl.config` describes them. Left out: failures, evaluations, checkpoints, the
prefill of prompts, engines that load one after the other.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from oapl.planning.lengths import Lengths
from oapl.planning.setting import Setting, Shares

NEVER = math.inf
GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 are spread evenly, so that a filter drops its share all the time."""


@dataclass(slots=True)
class _Flight:
    """A group in the engines: which one, how many rollouts it has at work, what they have done."""

    draw: int
    attempt: int
    begun: float
    active: float


@dataclass(frozen=True, slots=True)
class _Made:
    """A group in the buffer, and its tokens."""

    draw: int
    attempt: int
    work: float


class Simulation:
    """One run of `steps` learner steps, measured from the end of the first period on.

    Args:
        setting: What is simulated.
        lengths: Of its groups.
        steps: Whole takes; not more than a period: then all of it is measured.
    """

    def __init__(self, setting: Setting, lengths: Lengths, steps: int) -> None:
        self._setting, self._lengths, self._steps = setting, lengths, steps
        self._measured_step = setting.interval if steps > setting.interval else 0
        self._now = self._clock = self._active = 0.0
        self._is_steady = setting.full == math.inf
        self._speed = setting.speed(0.0)
        self._step_ends, self._opens = NEVER, 0.0
        self._step = self._version = self._begin = 0
        self._flights: dict[int, _Flight] = {}
        self._ends: list[tuple[float, int]] = []  # by the pool's clock, with the draw
        self._returned: deque[tuple[int, int]] = deque()
        self._num_drawn = self._leased = 0
        self._buffer: list[_Made] = []
        self._ahead: list[_Made] = []
        self._buffer_version = 0
        self._trained = self._published = self._held = self._made = self._wasted = 0.0
        self._measured_from = 0.0
        self._largest_lag = self._lags = self._first_lag = 0
        self._take_time = 0.0

    def run(self) -> Shares:
        """Let it run to its end.

        Raises:
            RuntimeError: Nothing goes on, which is an error of the model.
        """
        self._proceed()
        while self._step < self._steps:
            ends = self._next_end()
            until = min(self._step_ends, ends, self._opens if self._opens > self._now else NEVER)
            if until == NEVER:
                raise RuntimeError(f"nothing goes on at step {self._step} of {self._setting}")
            self._advance(until)
            if self._step_ends <= until:
                self._end_take()
            elif ends <= until:
                self._end_group()
            self._proceed()
        elapsed, steps = self.measured_time, self.measured_steps
        between = self._published + steps * self._setting.between
        return Shares(
            learner=1 - self._trained / elapsed,
            between=between / elapsed,
            engine=1 - self._held / (elapsed * self._setting.slots),
            wasted=self._wasted / self._made if self._made else 0.0,
            mean_lag=self._lags / steps,
            largest_lag=self._largest_lag,
            elapsed=self._now,
        )

    @property
    def measured_steps(self) -> int:
        """Learner steps behind the first period, or all."""
        return self._steps - self._measured_step

    @property
    def measured_time(self) -> float:
        """What they took, once it has run."""
        return self._now - self._measured_from

    @property
    def _is_measured(self) -> bool:
        return self._step >= self._measured_step

    def _next_end(self) -> float:
        """When the next group ends, if nothing else happens before."""
        if not self._ends:
            return NEVER
        if self._is_steady:
            return self._ends[0][0] / self._speed  # exact: the clock is the time
        return self._now + (self._ends[0][0] - self._clock) / self._speed

    def _advance(self, until: float) -> None:
        """Let the time pass in which nothing happens but work."""
        passed = until - self._now
        if self._is_measured:
            self._held += len(self._flights) * passed
            self._made += self._active * self._speed * passed
        self._now = until
        if self._is_steady:
            self._clock = until * self._speed
        else:
            self._clock += self._speed * passed

    def _end_group(self) -> None:
        ends, draw = heapq.heappop(self._ends)
        self._clock = max(self._clock, ends)
        flight = self._flights.pop(draw)
        self._load(-flight.active)
        if draw * GOLDEN % 1 >= self._setting.kept:
            return
        kept = self._ahead if self._begin > self._step else self._buffer
        _, work = self._lengths.group(draw, flight.attempt)
        kept.append(_Made(draw, flight.attempt, work))

    def _load(self, change: float) -> None:
        """Rollouts come, or go; where speed depends on them it is another one."""
        self._active = self._active + change if self._flights else 0.0
        self._speed = self._setting.speed(self._active)

    def _end_take(self) -> None:
        setting = self._setting
        self._count()
        self._step_ends, self._leased = NEVER, 0
        before = self._step
        self._step += setting.steps_per_take
        if before < self._measured_step <= self._step:
            self._measured_from = self._now
        if self._step == self._begin:
            self._buffer, self._ahead = self._ahead, []
            self._buffer_version = self._version
        elif self._step % setting.interval == 0:
            self._publish(self._step, keep=0)
            self._buffer_version = self._version

    def _proceed(self) -> None:
        """The engines fill their slots; the learner begins a take, and leads, when it can."""
        self._fill()
        wanted = self._setting.made_per_take
        if self._step_ends < NEVER or self._now < self._opens or len(self._buffer) < wanted:
            return
        taken, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
        self._leased = wanted
        self._first_lag = self._step - self._buffer_version
        self._lead()
        self._take_time = self._time_of(taken)
        between = self._setting.steps_per_take * self._setting.between
        self._step_ends = max(self._now, self._opens) + self._take_time + between
        self._fill()

    def _count(self) -> None:
        """A take that ends: its time, and the lags of its steps."""
        steps = self._setting.steps_per_take
        last = self._first_lag + steps - 1
        self._largest_lag = max(self._largest_lag, last)
        if self._is_measured:
            self._trained += self._take_time
            self._lags += (self._first_lag + last) * steps // 2

    def _time_of(self, taken: list[_Made]) -> float:
        """Of a take: its steps, and as often as each group is used a pass over its tokens."""
        setting = self._setting
        time = setting.steps_per_take * setting.step
        if setting.token_time:
            work = sum(group.work for group in taken) / len(taken) + setting.prompt_work
            passes = setting.updates_per_batch * setting.groups_per_take  # history too
            time += setting.token_time * passes * work
        return time

    def _lead(self) -> None:
        setting = self._setting
        following = (self._step // setting.interval + 1) * setting.interval
        untrained = following - self._step
        keep = setting.made_per_take * (untrained // setting.steps_per_take - 1)
        if (
            untrained <= setting.max_lead
            and self._begin <= self._step
            and self._version < self._step
            and len(self._buffer) >= keep
        ):
            self._publish(following, keep)

    def _publish(self, begin: int, keep: int) -> None:
        cleared, self._buffer = self._buffer[keep:], self._buffer[:keep]
        flights = list(self._flights.values())
        if self._step > self._measured_step:  # what the first period threw away is not measured
            self._wasted += sum(group.work for group in cleared)
            self._wasted += sum(
                self._lengths.made(one.draw, one.attempt, self._clock - one.begun)
                for one in flights
            )
        again = [(one.draw, one.attempt + 1) for one in flights]
        again += [(one.draw, one.attempt + 1) for one in cleared]
        self._returned.extendleft(reversed(again))
        self._flights.clear()
        self._ends.clear()
        self._load(0.0)
        self._version, self._begin = self._step, begin
        self._opens = self._now + self._setting.publish
        if self._is_measured and self._step < self._steps:
            self._published += self._setting.publish

    def _fill(self) -> None:
        setting = self._setting
        if self._now < self._opens:
            return
        room = min(self._needed() - len(self._flights), setting.slots - len(self._flights))
        for _ in range(room):
            draw, attempt = self._next_draw()
            longest, work = self._lengths.group(draw, attempt)
            flight = _Flight(draw, attempt, self._clock, work / longest)
            self._flights[draw] = flight
            heapq.heappush(self._ends, (self._clock + longest, draw))
            self._active += flight.active
        if room > 0:
            self._speed = setting.speed(self._active)

    def _needed(self) -> int:
        """Groups that the served version's period can still use, in flight or not yet begun."""
        setting = self._setting
        per_period = setting.made_per_take * (setting.interval // setting.steps_per_take)
        extra = math.ceil(setting.surplus * per_period - 1e-9)
        left = self._begin + setting.interval - max(self._step, self._begin)
        is_ahead = self._begin > self._step
        kept = len(self._ahead) if is_ahead else len(self._buffer) + self._leased
        need = setting.made_per_take * (left // setting.steps_per_take) + extra - kept
        if setting.kept < 1:
            need = math.ceil(need / setting.kept)
        if setting.capacity:
            held = len(self._ahead) + len(self._buffer) + self._leased
            need = min(need, setting.capacity - held)
        return need

    def _next_draw(self) -> tuple[int, int]:
        if self._returned:
            return self._returned.popleft()
        self._num_drawn += 1
        return self._num_drawn, 0


def simulate(setting: Setting, lengths: Lengths, steps: int) -> Shares:
    """Idle shares, waste and lag of a run, without its first period.

    Args:
        setting, lengths, steps: See `Simulation`.
    """
    return Simulation(setting, lengths, steps).run()

"""The event simulation of one learner and its engines: what follows from rates alone.

It knows the rules of publication and hand-out, and nothing of processes. Engines count as one pool
(`oapl.planning.pool`); those that stay behind with a period's last groups are another until these
have ended. Source of the rules: Algorithm 1 of OAPL (arXiv 2602.19362), with `replay.surplus`,
`sync.max_lead` and `sync.stragglers` as `oapl.config` describes them. Left out: failures,
evaluations, checkpoints, the prefill of prompts and of what is moved, engines that load one after
the other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from oapl.planning.lengths import Lengths
from oapl.planning.pool import NEVER, Flight, Pool
from oapl.planning.setting import Setting, Shares
from oapl.stragglers import behind

GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 are spread evenly, so that a filter drops its share all the time."""


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
        self._now = 0.0
        self._main, self._behind = Pool(setting), Pool(setting)
        self._num_behind = 0  # engines that stay behind
        self._step_ends, self._opens, self._joins = NEVER, 0.0, NEVER
        self._step = self._version = self._begin = 0
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
            ends = [pool.next_end(self._now) for pool in (self._main, self._behind)]
            opens = self._opens if self._opens > self._now else NEVER
            until = min(self._step_ends, *ends, opens, self._joins)
            if until == NEVER:
                raise RuntimeError(f"nothing goes on at step {self._step} of {self._setting}")
            self._advance(until)
            if self._step_ends <= until:
                self._end_take()
            elif ends[0] <= until:
                kept = self._ahead if self._begin > self._step else self._buffer
                self._end_group(self._main, kept)
            elif ends[1] <= until:
                self._end_group(self._behind, self._buffer)
            elif self._joins <= until:
                self._num_behind, self._joins = 0, NEVER
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

    def _advance(self, until: float) -> None:
        """Let the time pass in which nothing happens but work."""
        passed = until - self._now
        for pool in (self._main, self._behind):
            if self._is_measured:
                self._held += len(pool) * passed
                self._made += pool.active * pool.speed * passed
            pool.advance(passed, until)
        self._now = until

    def _end_group(self, pool: Pool, kept: list[_Made]) -> None:
        one = pool.end()
        if one.draw * GOLDEN % 1 >= self._setting.kept:
            return
        _, work = self._lengths.group(one.draw, one.attempt)
        kept.append(_Made(one.draw, one.attempt, work))

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
        if self._step_ends < NEVER or self._now < self._opens:
            return
        wanted = self._setting.made_per_take
        if len(self._buffer) < wanted:
            if self._lead():
                self._fill()
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

    def _lead(self) -> bool:
        """Publish ahead of the next period, if this one has its groups or few engines make them."""
        setting = self._setting
        following = (self._step // setting.interval + 1) * setting.interval
        untrained = following - self._step
        keep = setting.made_per_take * (untrained // setting.steps_per_take) - self._leased
        is_in_reach = untrained <= setting.max_lead and self._begin <= self._step
        if not is_in_reach or self._version == self._step or self._num_behind:
            return False
        lacking = keep - len(self._buffer)
        if lacking > 0 and setting.moves:
            self._move(max(lacking, len(self._main)))
        if lacking > 0 and not self._num_behind:
            return False
        self._publish(following, keep)
        return True

    def _move(self, groups: int) -> None:
        """Let a period's last groups go on in few engines, if they fit there."""
        per_engine = self._setting.slots / self._setting.engines
        self._num_behind = behind(groups, self._setting.engines, per_engine)
        if self._num_behind:
            share = self._num_behind / self._setting.engines
            self._behind = Pool(self._setting, share, self._now)
            self._main.move_to(self._behind)

    def _publish(self, begin: int, keep: int) -> None:
        cleared, self._buffer = self._buffer[keep:], self._buffer[:keep]
        self._recall(self._main, cleared)
        self._version, self._begin = self._step, begin
        self._opens = self._now + self._setting.publish
        if self._is_measured and self._step < self._steps:
            self._published += self._setting.publish

    def _recall(self, pool: Pool, cleared: Sequence[_Made] = ()) -> None:
        """Throw away what is in flight and what was cleared; these draws come first now."""
        if self._step > self._measured_step:  # what the first period threw away is not measured
            self._wasted += sum(group.work for group in cleared)
            self._wasted += sum(
                self._lengths.made(one.draw, one.attempt, pool.done(one))
                for one in pool.flights.values()
            )
        again = [(one.draw, one.attempt + 1) for one in pool.clear()]
        again += [(one.draw, one.attempt + 1) for one in cleared]
        self._returned.extendleft(reversed(again))

    def _fill(self) -> None:
        setting = self._setting
        if self._now < self._opens:
            return
        slots_behind = round(setting.slots * self._num_behind / setting.engines)
        if self._num_behind and self._joins == NEVER:
            self._fill_behind(slots_behind)
        self._draw(self._main, min(self._needed(), setting.slots - slots_behind))

    def _fill_behind(self, slots: int) -> None:
        """Make up for what a filter dropped; with no group left to make, load and join."""
        setting = self._setting
        takes = (self._begin - self._step) // setting.steps_per_take
        lacking = setting.made_per_take * takes - len(self._buffer) - self._leased
        if lacking > 0:
            self._draw(self._behind, min(math.ceil(lacking / setting.kept), slots))
        else:
            self._recall(self._behind)
            self._joins = self._now + setting.publish

    def _draw(self, pool: Pool, most: int) -> None:
        """Let new groups begin, up to so many."""
        drawn = []
        for _ in range(most - len(pool)):
            draw, attempt = self._next_draw()
            longest, work = self._lengths.group(draw, attempt)
            drawn.append(Flight(draw, attempt, longest, work / longest))
        pool.add(drawn)

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
            held = len(self._ahead) + len(self._buffer) + self._leased + len(self._behind)
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

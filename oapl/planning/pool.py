"""Engines over which rollouts are evenly spread, so that all of them advance together.

Work done by one rollout since the beginning is the pool's clock, and a group ends when that clock
has passed its longest rollout.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from oapl.planning.setting import Setting

NEVER = math.inf


@dataclass(slots=True)
class Flight:
    """A group in the engines: which one, the work of its longest rollout, how many rollouts it has
    at work, and the pool's clock when it began; before that minus what it has done."""

    draw: int
    attempt: int
    longest: float
    active: float
    begun: float = 0.0


class Pool:
    """Some engines, or all.

    Args:
        setting: For how fast a rollout is in company.
        share: Of all engines.
        now: The time.

    Attributes:
        flights: By draw.
        active: Rollouts at work.
        speed: Work of each in a unit of time.
    """

    def __init__(self, setting: Setting, share: float = 1.0, now: float = 0.0) -> None:
        self.flights: dict[int, Flight] = {}
        self.active = 0.0
        self.speed = setting.speed(0.0)
        self._setting, self._share = setting, share
        self._is_steady = setting.full == math.inf
        self._clock = now * self.speed
        self._ends: list[tuple[float, int]] = []  # by the clock, with the draw

    def __len__(self) -> int:
        return len(self.flights)

    def next_end(self, now: float) -> float:
        """When the next group ends, if nothing else happens before."""
        if not self._ends:
            return NEVER
        if self._is_steady:
            return self._ends[0][0] / self.speed  # exact: the clock is the time
        return now + (self._ends[0][0] - self._clock) / self.speed

    def advance(self, passed: float, until: float) -> None:
        """Let the time pass in which nothing happens but work.

        Args:
            passed: How much of it.
            until: The time then.
        """
        self._clock = until * self.speed if self._is_steady else self._clock + self.speed * passed

    def done(self, flight: Flight) -> float:
        """Work that those of its rollouts have done that are still going on."""
        return self._clock - flight.begun

    def add(self, flights: Iterable[Flight]) -> None:
        """Let groups begin, or go on from what they have `done`."""
        for flight in flights:
            flight.begun += self._clock
            self.flights[flight.draw] = flight
            heapq.heappush(self._ends, (flight.begun + flight.longest, flight.draw))
            self.active += flight.active
        self._pace()

    def move_to(self, other: Pool) -> None:
        """Let all groups go on there."""
        for flight in (flights := self.clear()):
            flight.begun -= self._clock
        other.add(flights)

    def end(self) -> Flight:
        """Let the next group end."""
        ends, draw = heapq.heappop(self._ends)
        self._clock = max(self._clock, ends)
        flight = self.flights.pop(draw)
        self.active = self.active - flight.active if self.flights else 0.0
        self._pace()
        return flight

    def clear(self) -> list[Flight]:
        """Take all groups out, in the order of their beginning."""
        flights = list(self.flights.values())
        self.flights.clear()
        self._ends.clear()
        self.active = 0.0
        self._pace()
        return flights

    def _pace(self) -> None:
        self.speed = self._setting.speed(self.active / self._share)

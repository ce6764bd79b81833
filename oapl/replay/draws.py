"""Draws that wait for a worker or are with one: the queue, the flights, the deaths on the way.

Invariants: a draw of these is queued or in flight, never both; what comes back goes to the front of
the queue with attempt + 1, so that a slow draw has a whole period; there is no limit of attempts
but that of deaths. After a death the draws that the worker held are suspects: ever fewer of them
share an engine, so that the one that kills engines is found and fails alone. A draw on its way from
one worker to another is queued apart, with its rollouts so far, and stays the same attempt.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from oapl.errors import CheckpointError, StaleError
from oapl.interfaces import PromptSource
from oapl.records import Group, Prompt, State, Unfinished, WorkerId
from oapl.replay.periods import PeriodNeeds

LEAST_TRIAL = 8
"""So many first draws at least must all fail before a run is given up: one may be a bad row."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A draw that a worker holds.

    Attributes:
        version: Served when it was handed out, and that of its group.
    """

    prompt: Prompt
    worker: WorkerId
    version: int


@dataclass(frozen=True, slots=True)
class Death:
    """What a dead worker's draws have become.

    Attributes:
        num_lost: Draws that it held.
        hopeless: Those under which too many engines died, with the number; the others are queued.
    """

    num_lost: int
    hopeless: tuple[tuple[Prompt, int], ...]


class Draws:
    """Queue, flights and deaths, with the source behind them.

    Args:
        source: Where new draws come from; its cursor is part of the state.
        periods: How many deaths a draw may see.

    Attributes:
        drawn: Draws that have left the source.
        exhausted: The source has no more.
        is_proven: A group has come: not all draws fail.
    """

    def __init__(self, source: PromptSource, periods: PeriodNeeds) -> None:
        self.drawn = 0
        self.exhausted = False
        self.is_proven = False
        self._source = source
        self._periods = periods
        self._queue: deque[Prompt] = deque()
        self._moved: dict[str, tuple[Unfinished, int]] = {}  # with the version of its flight
        self._in_flight: dict[str, Flight] = {}
        self._under: Counter[int] = Counter()  # of these, by version
        self._settled: dict[str, tuple[int, int]] = {}  # id -> attempt accepted, and its version
        self._deaths: dict[str, int] = {}
        self._released: dict[int, int] = {}  # worker index -> its last dead incarnation
        self._tried = 0  # first draws of this process, up to `_trial`
        self._untried: set[str] = set()  # those of them that have not failed

    @property
    def num_queued(self) -> int:
        """Draws that wait for a worker."""
        return len(self._queue) + len(self._moved)

    @property
    def num_moved(self) -> int:
        """Of these, those that another worker has begun."""
        return len(self._moved)

    @property
    def num_in_flight(self) -> int:
        """Draws that workers hold."""
        return len(self._in_flight)

    def num_under(self, version: int) -> int:
        """Count the draws in flight that were handed out under a version."""
        return self._under[version]

    def by_worker(self) -> dict[WorkerId, int]:
        """How many draws each worker holds, of those that hold any."""
        return dict(Counter(flight.worker for flight in self._in_flight.values()))

    def is_over(self) -> bool:
        """Whether the source is exhausted and no draw is queued or in flight."""
        return self.exhausted and not self._in_flight and not self.num_queued

    def is_hopeless(self) -> bool:
        """Whether no group has come and none will: each of the first draws has failed.

        All of them are waited for, since those that fail may fail fast.
        """
        return self._tried == self._trial and not self._untried and not self.is_proven

    @property
    def _trial(self) -> int:
        return max(LEAST_TRIAL, self._periods.groups_per_step)

    # Handing out

    def hand_out(self, worker: WorkerId, version: int, room: int) -> list[Prompt]:
        """Give draws to a worker, those that came back first; see `Ledger.draw` for suspects.

        Args:
            worker: Who asks.
            version: Served now.
            room: Most draws, at least 1.
        """
        held = [f.prompt for f in self._in_flight.values() if f.worker == worker]
        has_suspects = any(prompt.max_in_engine for prompt in held)
        prompts: list[Prompt] = []
        if has_suspects or not held:
            prompts = self._pop_suspects(room, held)
        if not prompts and not has_suspects:
            prompts = self._pop_shared(room)
        for prompt in prompts:
            assert prompt.id not in self._in_flight, f"draw {prompt.id} was handed out twice"
            self._begin(prompt, worker, version)
        return prompts

    def move(self, unfinished: Unfinished) -> None:
        """Take a draw from its worker, and keep its rollouts so far for another one."""
        flight = self._end(unfinished.prompt)
        self._moved[unfinished.prompt.id] = unfinished, flight.version

    def hand_out_moved(self, worker: WorkerId, room: int) -> list[Unfinished]:
        """Give draws that another worker has begun to this one, which holds their version."""
        given = list(self._moved.values())[:room]
        for unfinished, version in given:
            del self._moved[unfinished.prompt.id]
            self._begin(unfinished.prompt, worker, version)
        return [unfinished for unfinished, _ in given]

    def forget_moved(self) -> list[Unfinished]:
        """Let draws that were on their way begin anew: what they had."""
        lost = [unfinished for unfinished, _ in self._moved.values()]
        self._moved.clear()
        self.requeue([unfinished.prompt for unfinished in lost])
        return lost

    def _begin(self, prompt: Prompt, worker: WorkerId, version: int) -> None:
        self._in_flight[prompt.id] = Flight(prompt, worker, version)
        self._under[version] += 1

    def _end(self, prompt: Prompt) -> Flight:
        flight = self._in_flight.pop(prompt.id)
        self._under[flight.version] -= 1
        return flight

    def _pop_suspects(self, room: int, held: Sequence[Prompt]) -> list[Prompt]:
        together = list(held)
        for prompt in self._queue:
            limits = [p.max_in_engine for p in (*together, prompt) if p.max_in_engine]
            fits = len(together) < min(limits, default=0) and len(together) < len(held) + room
            if prompt.max_in_engine and fits:
                together.append(prompt)
        return self._pop(together[len(held) :])

    def _pop_shared(self, room: int) -> list[Prompt]:
        shared = self._pop([prompt for prompt in self._queue if not prompt.max_in_engine][:room])
        while len(shared) < room and (prompt := self._next_new()) is not None:
            shared.append(prompt)
        return shared

    def _pop(self, prompts: list[Prompt]) -> list[Prompt]:
        taken = {prompt.id for prompt in prompts}
        if taken:
            self._queue = deque(prompt for prompt in self._queue if prompt.id not in taken)
        return prompts

    def _next_new(self) -> Prompt | None:
        prompt = self._source.next()
        self.exhausted = prompt is None
        self.drawn += prompt is not None
        if prompt is not None and self._tried < self._trial:
            self._tried += 1
            self._untried.add(prompt.id)
        return prompt

    # Coming back

    def holds(self, worker: WorkerId, prompt: Prompt) -> bool:
        """Whether the worker holds this attempt of the draw."""
        flight = self._in_flight.get(prompt.id)
        return (
            flight is not None
            and flight.worker == worker
            and flight.prompt.attempt == prompt.attempt
        )

    def is_under(self, version: int, worker: WorkerId, prompt: Prompt) -> bool:
        """Whether the worker holds this attempt of the draw, handed out under that version."""
        return self.holds(worker, prompt) and self._in_flight[prompt.id].version == version

    def why_refused(
        self, worker: WorkerId, prompt: Prompt, version: int, usable: Collection[int]
    ) -> str:
        """Tell why a group is not the one that a draw awaits.

        Args:
            worker: Who made it.
            prompt: The draw as it was handed out.
            version: Of the group.
            usable: Versions that are kept.

        Returns:
            `duplicate`, `stale` or `unknown`, as in `Ledger.put`; empty if it is the one.
        """
        if self._settled_attempt(prompt) == prompt.attempt:
            return "duplicate"
        if version not in usable or self._is_superseded(prompt):
            return "stale"
        if not self.holds(worker, prompt):
            return "unknown"
        return "" if version == self._in_flight[prompt.id].version else "stale"

    def _is_superseded(self, prompt: Prompt) -> bool:
        attempts = [other.attempt for other in self._queue if other.id == prompt.id]
        if prompt.id in self._in_flight:
            attempts.append(self._in_flight[prompt.id].prompt.attempt)
        attempts.append(self._settled_attempt(prompt))
        return max(attempts) > prompt.attempt

    def _settled_attempt(self, prompt: Prompt) -> int:
        attempt, _ = self._settled.get(prompt.id, (-1, -1))
        return attempt

    def settle(self, prompt: Prompt) -> None:
        """Take a draw from its worker, since its group was accepted."""
        flight = self._end(prompt)
        self._settled[prompt.id] = (prompt.attempt, flight.version)

    def forget_settled(self, usable: Collection[int]) -> None:
        """Forget accepted groups of versions that are too old to come a second time."""
        self._settled = {id: mark for id, mark in self._settled.items() if mark[1] in usable}

    def land(self, prompt: Prompt) -> Prompt:
        """Take a draw from its worker, since it ends; the draw as it was handed out."""
        return self._end(prompt).prompt

    def give_back(self, prompt: Prompt) -> None:
        """Return a draw in flight to the front of the queue."""
        self.requeue([self.land(prompt)])

    def requeue(self, prompts: Iterable[Prompt]) -> None:
        """Put draws at the front of the queue, in this order, for another attempt."""
        again = [replace(prompt, attempt=prompt.attempt + 1) for prompt in prompts]
        self._queue.extendleft(reversed(again))

    def recall(self, stays: Callable[[Flight], bool]) -> list[Prompt]:
        """Take all flights from their workers but those that stay; nothing is queued yet."""
        lost = [flight for flight in self._in_flight.values() if not stays(flight)]
        return [self.land(flight.prompt) for flight in lost]

    def ended(self, prompt: Prompt, *, has_failed: bool) -> None:
        """Forget a draw that has its fate.

        Args:
            prompt: Neither queued nor in flight.
            has_failed: Whether that is its fate.
        """
        self._deaths.pop(prompt.id, None)
        if has_failed:
            self._untried.discard(prompt.id)

    # Deaths

    def release(self, worker: WorkerId) -> Death:
        """Take a dead worker's draws back: each counts a death and is a suspect now, or ends."""
        last = self._released.get(worker.index, -1)
        self._released[worker.index] = max(worker.incarnation, last)
        lost = self.recall(lambda flight: flight.worker != worker)
        hopeless, retried = [], []
        for prompt in lost:
            deaths = self._deaths[prompt.id] = self._deaths.get(prompt.id, 0) + 1
            if deaths >= self._periods.max_deaths:
                hopeless.append((prompt, deaths))
            else:
                limit = self._periods.max_in_engine(deaths, len(lost))
                retried.append(replace(prompt, max_in_engine=limit))
        self.requeue(retried)
        return Death(len(lost), tuple(hopeless))

    def is_released(self, worker: WorkerId) -> bool:
        """Whether this incarnation of a worker was released."""
        return worker.incarnation <= self._released.get(worker.index, -1)

    def refuse_released(self, worker: WorkerId, what: str) -> None:
        """Refuse the call of a worker that was released.

        Args:
            worker: Who calls.
            what: It did, for the message.

        Raises:
            StaleError: It was released.
        """
        if self.is_released(worker):
            raise StaleError(f"{worker} {what}, but this incarnation was released after its death")

    # Accounts

    def clear(self) -> list[Prompt]:
        """Give up all draws: those in flight, then those in the queue."""
        prompts = [*self._begun(), *self._queue]
        self._in_flight.clear()
        self._under.clear()
        self._moved.clear()
        self._queue.clear()
        return prompts

    def state(self) -> State:
        """What `restore` needs."""
        return {
            "source": self._source.state(),
            "queue": list(self._queue),
            "in_flight": self._begun(),
            "deaths": dict(self._deaths),
            "drawn": self.drawn,
        }

    def _begun(self) -> list[Prompt]:
        """Draws that workers hold or have handed over."""
        moved = [unfinished.prompt for unfinished, _ in self._moved.values()]
        return [*(flight.prompt for flight in self._in_flight.values()), *moved]

    def restore(self, state: State) -> None:
        """Go on from a state with new workers: what was in flight is drawn again first."""
        assert self.drawn == 0, "restore into a ledger that was already used"
        self._source.restore(state["source"])
        self._queue = deque(state["queue"])
        self.requeue(state["in_flight"])
        self._deaths = dict(state["deaths"])
        self.drawn = state["drawn"]

    def take_over(self, cursor: State) -> bool:
        """Go on after the draws of an ended stage; False where it had other data."""
        assert self.drawn == 0, "draws of another stage in a ledger that was already used"
        try:
            self._source.restore(cursor)
        except CheckpointError:
            return False
        return True

    def restore_settled(self, groups: Iterable[Group]) -> None:
        """Know accepted groups again after a resume."""
        self._settled = {g.prompt.id: (g.prompt.attempt, g.version) for g in groups}

"""The rules of the replay buffer: where every draw of a prompt is, and how it ends.

Invariants:
- A draw is in exactly one place: queued, in flight, buffered or leased; it leaves by exactly one
  fate: trained, dropped, failed, unfinished. So drawn = sum of places + sum of fates, always.
- A buffer holds groups of one version. There are two: the learner takes from one, and once the next
  version is served ahead of its period (`lead`), new groups go into the other, which takes the
  first one's place at the period's end. Without a lead only one is in use; `advance` clears it.
- With `max_versions` > 1 (and then no lead) the one buffer holds groups of the newest so many
  versions; `advance` clears what is older. They count for what the period needs, and go first.
- A group is accepted once per in-flight (id, attempt) of the worker that holds the draw. Whatever
  ends a draw without a group sends it to the front of the queue with attempt + 1.
- A group that the objective's filter drops makes room for another, up to a limit per period, beyond
  which such groups are kept: a reward that never varies cannot hold a period up for ever.
- Draws are handed out only while the period needs groups: nothing is generated for the bin unless
  `surplus` asks for it. A draw that comes back goes first, so that a slow one has a whole period;
  there is no limit of attempts but that of deaths.

Synchronous and free of time, threads and asyncio; `oapl.replay.buffer` adds the waiting.
"""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from oapl.errors import StaleError
from oapl.interfaces import PromptSource
from oapl.records import (
    FATES,
    Credit,
    CreditedGroup,
    Fate,
    FateKind,
    Group,
    Metrics,
    Prompt,
    ScoredGroup,
    State,
    WorkerId,
)
from oapl.replay.counts import ReplayCounts
from oapl.replay.periods import PeriodNeeds

LEAST_TRIAL = 8
"""So many first draws at least must all fail before a run is given up: one may be a bad row."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A draw that a worker holds."""

    prompt: Prompt
    worker: WorkerId
    version: int  # served when it was handed out, and that of its group


class Ledger:
    """Prompt queue, draws in flight, buffer, leases and fates: one consistent cut.

    Its acts are those of `oapl.interfaces.Replay` and `oapl.interfaces.Batches`, without the waits.

    Args:
        source: Where new draws come from; its cursor is part of the snapshot.
        credit: The objective's `credit`.
        periods: How many groups the run asks for.
        on_fate: Told of every fate as it falls.

    Attributes:
        periods: As given.
        usable: Versions accepted and kept, oldest first; the last one is served.
        begin: Learner step at which the period that `version` feeds begins.
        step: Learner steps made.
        exhausted: The source has no more draws.
        finished: `finish` was called.
        first_failure: Cause of the first draw that failed here; empty while none has.
    """

    def __init__(
        self,
        source: PromptSource,
        credit: Callable[[ScoredGroup], Credit],
        periods: PeriodNeeds,
        on_fate: Callable[[Fate], None] | None = None,
    ) -> None:
        self.periods = periods
        self.usable: tuple[int, ...] = (0,)
        self.begin = 0
        self.step = 0
        self.exhausted = False
        self.finished = False
        self.first_failure = ""
        self._source = source
        self._credit = credit
        self._on_fate = on_fate
        self._queue: deque[Prompt] = deque()
        self._in_flight: dict[str, _Flight] = {}
        self._buffer: dict[str, CreditedGroup] = {}  # of the period in training
        self._ahead: dict[str, CreditedGroup] = {}  # of the period that will follow
        self._leased: dict[str, CreditedGroup] = {}
        self._settled: dict[str, tuple[int, int]] = {}  # id -> attempt accepted, and its version
        self._deaths: dict[str, int] = {}
        self._released: dict[int, int] = {}  # worker index -> its last dead incarnation
        self._drawn = 0
        self._dropped = 0  # by the filter, in the served version's period
        self._tried = 0  # first draws of this process, up to `_trial`
        self._untried: set[str] = set()  # those of them that have not failed
        self._is_proven = False  # a group has come
        self._fates: Counter[tuple[FateKind, str]] = Counter()
        self._counts = ReplayCounts()

    # Handing out

    @property
    def version(self) -> int:
        """The served version: what a worker must hold to get draws."""
        return self.usable[-1]

    @property
    def is_ahead(self) -> bool:
        """Whether the served version feeds a period that has not begun."""
        return self.begin > self.step

    def need(self) -> int:
        """How many more draws may be handed out now."""
        if self.finished:
            return 0
        trained_from = len(self._buffer) + len(self._leased)
        coming = len(self._ahead) + len(self._in_flight)
        held = coming if self.is_ahead else trained_from + coming
        wanted = self.periods.wanted(self.begin, self.step) - held
        return max(0, min(wanted, self.periods.capacity - trained_from - coming))

    def serves(self, version: int) -> bool:
        """Whether a worker that holds `version` can get draws at all."""
        return version == self.version and not self.finished

    def draw(self, worker: WorkerId, version: int, limit: int) -> list[Prompt]:
        """Hand out draws to a worker that holds the served version, else none.

        Returned draws go first. Suspects, retried after a death, share an engine with suspects
        only, and at most as many as each one's `max_in_engine` allows. A worker with nothing in
        flight gets them before any other draw, so that they cannot starve.

        Args:
            worker: Who asks.
            version: What its engine holds.
            limit: Most draws.

        Raises:
            StaleError: The worker was released.
        """
        self._refuse_released(worker, "asked for prompts")
        room = min(limit, self.need())
        if not self.serves(version) or room <= 0:
            return []
        held = [f.prompt for f in self._in_flight.values() if f.worker == worker]
        has_suspects = any(prompt.max_in_engine for prompt in held)
        if has_suspects or not held:
            suspects = self._pop_suspects(room, held)
            if suspects or has_suspects:
                return self._hand_out(worker, suspects)
        return self._hand_out(worker, self._pop_shared(room))

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
        self._drawn += prompt is not None
        if prompt is not None and self._tried < self._trial:
            self._tried += 1
            self._untried.add(prompt.id)
        return prompt

    @property
    def _trial(self) -> int:
        return max(LEAST_TRIAL, self.periods.groups_per_step)

    def _hand_out(self, worker: WorkerId, prompts: list[Prompt]) -> list[Prompt]:
        for prompt in prompts:
            assert prompt.id not in self._in_flight, f"draw {prompt.id} was handed out twice"
            self._in_flight[prompt.id] = _Flight(prompt, worker, self.version)
        return prompts

    # Coming back

    def put(self, worker: WorkerId, scored: ScoredGroup) -> str:
        """Credit a finished group and keep, drop or refuse it.

        A refused group whose draw the worker still holds sends the draw back to the queue.

        Args:
            worker: Who made it.
            scored: Of any version and any number of rollouts: this is where they are checked.

        Returns:
            `kept`, `dropped:FILTER` or `refused:WHY`. WHY is `stale` (a version that is not kept,
            or not the draw's, or an older attempt), `duplicate`, `unknown` (this worker never had
            the draw), `incomplete` or `finished`.

        Raises:
            StaleError: The worker was released; the group is counted.
        """
        group = scored.group
        self._refuse_released(worker, f"put group {group.prompt.id}", tokens=group.num_tokens)
        why = self._why_refused(worker, scored)
        if why:
            self._counts.refuse(why, group.num_tokens)
            if self._holds(worker, group.prompt):
                self._return(group.prompt, why)
            return f"refused:{why}"
        self._is_proven = True
        credit = self._credit(scored)
        del self._in_flight[group.prompt.id]
        self._settled[group.prompt.id] = (group.prompt.attempt, group.version)
        self._counts.accept(scored, credit)
        if credit.dropped is not None:
            if self._dropped < self.periods.droppable(self.begin):
                self._dropped += 1
                self._close(group.prompt, "dropped", credit.dropped)
                return f"dropped:{credit.dropped}"
            credit = replace(credit, dropped=None)
            self._counts.count("replay/spared")
        buffer = self._ahead if self.is_ahead else self._buffer
        buffer[group.prompt.id] = CreditedGroup(scored=scored, credit=credit)
        return "kept"

    def _why_refused(self, worker: WorkerId, scored: ScoredGroup) -> str:
        group = scored.group
        if self.finished:
            return "finished"
        if self._settled_attempt(group.prompt) == group.prompt.attempt:
            return "duplicate"
        if group.version not in self.usable or self._is_superseded(group.prompt):
            return "stale"
        if not self._holds(worker, group.prompt):
            return "unknown"
        if group.version != self._in_flight[group.prompt.id].version:
            return "stale"
        return "" if self._is_complete(group, scored) else "incomplete"

    def _is_superseded(self, prompt: Prompt) -> bool:
        attempts = [other.attempt for other in self._queue if other.id == prompt.id]
        if prompt.id in self._in_flight:
            attempts.append(self._in_flight[prompt.id].prompt.attempt)
        attempts.append(self._settled_attempt(prompt))
        return max(attempts) > prompt.attempt

    def _settled_attempt(self, prompt: Prompt) -> int:
        attempt, _ = self._settled.get(prompt.id, (-1, -1))
        return attempt

    def _is_complete(self, group: Group, scored: ScoredGroup) -> bool:
        whole = all(rollout.finish_reason != "abort" for rollout in group.rollouts)
        sizes = {len(group.rollouts), len(scored.rewards), len(scored.verdicts)}
        return whole and sizes == {self.periods.group_size}

    def _holds(self, worker: WorkerId, prompt: Prompt) -> bool:
        flight = self._in_flight.get(prompt.id)
        return (
            flight is not None
            and flight.worker == worker
            and flight.prompt.attempt == prompt.attempt
        )

    def give_back(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """Return a draw to the front of the queue. See `oapl.interfaces.Replay.give_back`.

        When the worker no longer holds it (a synchronisation took it back already), only the
        tokens are counted.
        """
        self._refuse_released(worker, f"gave back {prompt.id}")
        self._counts.waste(num_tokens, self.periods.group_size)
        if self._holds(worker, prompt):
            self._return(prompt, cause)

    def fail(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """End a draw that cannot be sampled or scored. See `oapl.interfaces.Replay.fail`."""
        self._refuse_released(worker, f"failed {prompt.id}")
        self._counts.waste(num_tokens, self.periods.group_size)
        if self._holds(worker, prompt):
            self._close(self._in_flight.pop(prompt.id).prompt, "failed", cause)

    def _return(self, prompt: Prompt, cause: str) -> None:
        self._counts.count("replay/returned")
        self._counts.count(f"replay/returned/{cause}")
        self._requeue([self._in_flight.pop(prompt.id).prompt])

    def release(self, worker: WorkerId) -> None:
        """Take a dead worker's draws back: each counts a death and is a suspect now, or fails."""
        last = self._released.get(worker.index, -1)
        self._released[worker.index] = max(worker.incarnation, last)
        lost = [f.prompt for f in self._in_flight.values() if f.worker == worker]
        retried = []
        for prompt in lost:
            del self._in_flight[prompt.id]
            deaths = self._deaths[prompt.id] = self._deaths.get(prompt.id, 0) + 1
            self._counts.count("replay/deaths")
            if deaths >= self.periods.max_deaths:
                self._close(prompt, "failed", f"{deaths} engines died under it")
            else:
                limit = self.periods.max_in_engine(deaths, len(lost))
                retried.append(replace(prompt, max_in_engine=limit))
        self._requeue(retried)

    def _refuse_released(self, worker: WorkerId, what: str, tokens: int | None = None) -> None:
        if worker.incarnation > self._released.get(worker.index, -1):
            return
        if tokens is not None:
            self._counts.refuse("released", tokens)
        raise StaleError(f"{worker} {what}, but this incarnation was released after its death")

    def _requeue(self, prompts: Iterable[Prompt]) -> None:
        again = [replace(prompt, attempt=prompt.attempt + 1) for prompt in prompts]
        self._queue.extendleft(reversed(again))

    # Training

    def is_over(self) -> bool:
        """Nothing more can come: the source is exhausted and no draw is queued or in flight."""
        return self.exhausted and not self._in_flight and not self._queue

    def is_hopeless(self) -> bool:
        """Whether no group has come and none will: each of the first draws has failed.

        All of them are waited for, since those that fail may fail fast.
        """
        return self._tried == self._trial and not self._untried and not self._is_proven

    def can_take(self, count: int) -> bool:
        """Whether `take` would give `count` groups, or all that is left."""
        return len(self._buffer) >= count or self.is_over()

    def take(self, count: int) -> list[CreditedGroup] | None:
        """Lease the `count` oldest groups; at the end of the data what is left, then None.

        The oldest are those of the oldest version, and among them those that arrived first.
        """
        assert self.can_take(count), "take before can_take"
        ids = sorted(self._buffer, key=lambda id: self._buffer[id].scored.group.version)[:count]
        groups = [self._buffer.pop(id) for id in ids]
        self._leased.update(zip(ids, groups, strict=True))
        self._counts.lease(self.step - group.scored.group.version for group in groups)
        return groups or None

    def trained(self, ids: Sequence[str], step: int) -> None:
        """Close leases of groups trained on. See `oapl.interfaces.Batches.trained`."""
        self._close_leases(ids, "trained", "", step)

    def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Close leases whose step was skipped. See `oapl.interfaces.Batches.drop`."""
        self._close_leases(ids, "dropped", reason, step)

    def _close_leases(self, ids: Sequence[str], kind: FateKind, detail: str, step: int) -> None:
        missing = [id for id in ids if id not in self._leased]
        assert not missing, f"step {step} closes groups that are not leased: {missing}"
        assert step >= self.step, f"learner step went back from {self.step} to {step}"
        was_ahead, self.step = self.is_ahead, step
        for id in ids:
            self._close(self._leased.pop(id).scored.group.prompt, kind, detail)
        if was_ahead and not self.is_ahead:
            assert not self._buffer, f"{len(self._buffer)} groups outlived their period"
            self._buffer, self._ahead = self._ahead, {}

    def advance(self, step: int) -> None:
        """Serve version `step`, whose period begins now: clear the buffer and take back all draws.

        Groups of the `max_versions` newest versions, this one included, stay, and so do their draws
        in flight where engines drain. Serving the same version again changes nothing.
        """
        assert step >= self.version, f"version went back from {self.version} to {step}"
        assert step >= self.step, f"version {step} is older than learner step {self.step}"
        assert not self._leased, f"version moved to {step} with {len(self._leased)} groups leased"
        assert not self.is_ahead, f"version {self.version} already feeds the period of {self.begin}"
        if step == self.version:
            return
        self._serve(step, begin=step, keep=0)
        self.step = step

    def lead(self, step: int, begin: int) -> bool:
        """Serve version `step` ahead of its period. See `oapl.interfaces.Batches.lead`.

        The groups that the present period needs stay for the learner.

        Returns:
            False when it lacks groups, or no step was made since the last publication.
        """
        assert step == self.step, f"version {step} would lead, but learner step is {self.step}"
        assert not self.is_ahead, f"version {self.version} already feeds the period of {self.begin}"
        assert self.periods.max_versions == 1, "a lead needs a buffer of one version"
        end = self.periods.period_end(self.begin, self.step)
        assert begin == end < self.periods.max_steps, f"no period begins at {begin}"
        keep = self.periods.groups_of(end - step) - len(self._leased)
        if step == self.version or len(self._buffer) < keep:
            return False
        self._serve(step, begin, keep)
        return True

    def _serve(self, version: int, begin: int, keep: int) -> None:
        """Clear the buffer but for its `keep` oldest groups, and take back what is in flight.

        What is of a version still usable stays. Of the draws taken back the slowest (still in
        flight) come first from now on, then the cleared ones.
        """
        self.usable = (*self.usable, version)[-self.periods.max_versions :]
        beyond = [group.scored.group for group in list(self._buffer.values())[keep:]]
        cleared = [group for group in beyond if group.version not in self.usable]
        lengths = [len(rollout.token_ids) for group in cleared for rollout in group.rollouts]
        flights = self._in_flight.values()
        lost = [f for f in flights if not (self.periods.drains and f.version in self.usable)]
        self._counts.clear(len(cleared), lengths, len(lost))
        # A group that was finished has shown that its prompt kills no engine.
        innocent = [replace(group.prompt, max_in_engine=0) for group in cleared]
        for prompt in innocent:
            del self._buffer[prompt.id]
        for flight in lost:
            del self._in_flight[flight.prompt.id]
        self._requeue([flight.prompt for flight in lost] + innocent)
        settled = self._settled.items()
        self._settled = {id: mark for id, mark in settled if mark[1] in self.usable}
        self.begin, self._dropped = begin, 0

    def finish(self) -> None:
        """The run ends: every draw without a fate is `unfinished`. Take the snapshot before."""
        open_prompts = [
            *(group.scored.group.prompt for group in self._leased.values()),
            *(group.scored.group.prompt for group in self._buffer.values()),
            *(group.scored.group.prompt for group in self._ahead.values()),
            *(flight.prompt for flight in self._in_flight.values()),
            *self._queue,
        ]
        for place in (self._leased, self._buffer, self._ahead, self._in_flight, self._queue):
            place.clear()
        for prompt in open_prompts:
            self._close(prompt, "unfinished", "")
        self.finished = True

    def _close(self, prompt: Prompt, kind: FateKind, detail: str) -> None:
        self._fates[kind, detail] += 1
        self._deaths.pop(prompt.id, None)
        if kind in ("dropped", "failed"):
            self._counts.count(f"replay/{kind}")
        if kind == "failed":
            self.first_failure = self.first_failure or detail
            self._untried.discard(prompt.id)
        if self._on_fate is not None:
            self._on_fate(
                Fate(id=prompt.id, attempt=prompt.attempt, kind=kind, detail=detail, step=self.step)
            )

    # Accounts

    def counts(self) -> dict[str, int]:
        """Draws by fate and by place over the whole run; `drawn` is the sum of the others."""
        fates: dict[str, int] = dict.fromkeys(FATES, 0)
        for (kind, _), number in self._fates.items():
            fates[kind] += number
        places = {
            "queued": len(self._queue),
            "in_flight": len(self._in_flight),
            "buffered": len(self._buffer) + len(self._ahead),
            "leased": len(self._leased),
        }
        counts = {"drawn": self._drawn, **fates, **places}
        assert 2 * self._drawn == sum(counts.values()), f"draws do not add up: {counts}"
        return counts

    def fates(self) -> dict[str, int]:
        """Fates with their details, `dropped:uniform`, over the whole run."""
        return {
            f"{kind}:{detail}" if detail else kind: number
            for (kind, detail), number in sorted(self._fates.items())
        }

    def in_flight_by_worker(self) -> dict[WorkerId, int]:
        """How many draws each worker holds, of those that hold any."""
        return dict(Counter(flight.worker for flight in self._in_flight.values()))

    def stats(self) -> Metrics:
        """What happened since the last call, and how full the places are now."""
        versions = [group.scored.group.version for group in self._buffer.values()]
        gauges = {
            "replay/size": float(len(self._buffer)),
            "replay/older": float(sum(version < self.version for version in versions)),
            "replay/ahead": float(len(self._ahead)),
            "replay/in_flight": float(len(self._in_flight)),
            "replay/queued": float(len(self._queue)),
            "replay/need": float(self.need()),
        }
        return gauges | self._counts.take()

    def snapshot(self) -> State:
        """Everything that decides what happens next, picklable; leased groups as buffered."""
        return {
            "usable": self.usable,
            "begin": self.begin,
            "step": self.step,
            "source": self._source.state(),
            "queue": list(self._queue),
            "in_flight": [flight.prompt for flight in self._in_flight.values()],
            "buffer": [*self._leased.values(), *self._buffer.values()],
            "ahead": list(self._ahead.values()),
            "deaths": dict(self._deaths),
            "drawn": self._drawn,
            "dropped": self._dropped,
            "fates": dict(self._fates),
            "counts": copy.deepcopy(self._counts),
        }

    def restore(self, state: State) -> None:
        """Go on from a snapshot with new workers: what was in flight is drawn again first.

        A smaller `max_versions` than before holds from the next publication on.
        """
        assert self._drawn == 0, "restore into a ledger that was already used"
        self._source.restore(state["source"])
        self.usable = state["usable"]
        self.begin, self.step = state["begin"], state["step"]
        self._queue = deque(state["queue"])
        self._requeue(state["in_flight"])
        self._buffer = {group.id: group for group in state["buffer"]}
        self._ahead = {group.id: group for group in state["ahead"]}
        served = self._ahead if self.is_ahead else self._buffer
        groups = [credited.scored.group for credited in served.values()]
        self._settled = {g.prompt.id: (g.prompt.attempt, g.version) for g in groups}
        self._deaths = dict(state["deaths"])
        self._drawn, self._dropped = state["drawn"], state["dropped"]
        self._fates = Counter(state["fates"])
        self._counts = copy.deepcopy(state["counts"])
        self.counts()

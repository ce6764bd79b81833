"""The replay buffer against a simple oracle, under everything that workers and a learner can do.

Two workers of different speed generate, die, come too late, put twice, put under a wrong version
and give back; the learner takes, trains, skips, synchronises at a period's end or ahead of it, with
a buffer of one version or of several, aborting or draining what is in flight; groups are used again
within their period, or lent as history in later iterations; the process is killed and resumed from
its last snapshot, in any phase. After every act the two agree on where each draw is. Every run ends
with `drain`: from whatever state was reached, honest workers must bring the run to its end.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from oapl.config.objective import History
from oapl.errors import StaleError
from oapl.records import (
    FATES,
    Credit,
    Fate,
    Group,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    State,
    WorkerId,
)
from oapl.remote import plain_pickles
from oapl.replay.ledger import Ledger
from oapl.replay.periods import PeriodNeeds

G = 2
FAST, SLOW = 0, 1
LIKELY = st.sampled_from([True, True, True, False])


class Source:
    """Draws `0`, `1`, ...; exhausted after `size`."""

    def __init__(self, size: int | None) -> None:
        self.size, self.cursor = size, 0

    def next(self) -> Prompt | None:
        if self.cursor == self.size:
            return None
        self.cursor += 1
        ids = np.array([1], np.int32)
        name = str(self.cursor - 1)
        return Prompt(id=name, text="", token_ids=ids, verifiers={}, reference={}, source="s")

    def state(self) -> State:
        return {"cursor": self.cursor}

    def restore(self, state: State) -> None:
        self.cursor = state["cursor"]


@dataclass
class Draw:
    """What the oracle knows of one draw."""

    place: str = "queued"
    attempt: int = 0
    worker: WorkerId | None = None
    since: int = 0
    deaths: int = 0
    max_in_engine: int = 0  # after a death: how many may share its engine
    version: int = -1  # of its group in a buffer, or the one it was handed out for
    uses: int = 0  # that were closed
    born: int = -1  # iteration of its first use


@dataclass
class Oracle:
    """The rules written for reading, not for speed: one table of draws and two orders."""

    periods: PeriodNeeds
    max_lead: int
    size: int | None
    draws: dict[str, Draw] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)
    buffer: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    leased: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)  # of the period, with uses left
    again: list[str] = field(default_factory=list)  # of these, with the learner
    window: list[str] = field(default_factory=list)
    dead: set[WorkerId] = field(default_factory=set)
    fates: dict[str, str] = field(default_factory=dict)
    served: list[int] = field(default_factory=lambda: [0])  # every version so far
    begin: int = 0  # of the period that the served version feeds
    trained_versions: tuple[int, ...] = (0,)
    step: int = 0
    clock: int = 0

    def at(self, place: str) -> list[str]:
        return [name for name, draw in self.draws.items() if draw.place == place]

    def flying(self, worker: WorkerId | None = None) -> list[str]:
        """Draws in flight (at one worker), the longest in flight first."""
        names = sorted(self.at("in_flight"), key=lambda name: self.draws[name].since)
        return [n for n in names if worker is None or self.draws[n].worker == worker]

    @property
    def version(self) -> int:
        return self.served[-1]

    @property
    def usable(self) -> tuple[int, ...]:
        return tuple(self.served[-self.periods.max_versions :])

    @property
    def is_ahead(self) -> bool:
        return self.begin > self.step

    @property
    def period_end(self) -> int:
        """Of the period that the served version feeds."""
        return min(
            (self.begin // self.periods.interval + 1) * self.periods.interval,
            self.periods.max_steps,
        )

    @property
    def need(self) -> int:
        gps, passes = self.periods.groups_per_step, self.periods.updates_per_batch
        starts = range(self.begin, self.period_end, passes)
        left = [step for step in starts if step >= self.step]
        if not left:
            return 0
        extra = math.ceil(self.periods.surplus * gps * len(starts) - 1e-9)
        held = self.flying() + (self.ahead if self.is_ahead else self.buffer + self.leased)
        everything = self.flying() + self.ahead + self.buffer + self.leased + self.used
        free = self.periods.capacity - len(everything)
        if self.periods.history:
            need = self.fresh - len(held)
        elif self.periods.max_uses > 1:
            need = next(n for n in itertools.count() if self.is_enough(held, n, len(left)))
        else:
            need = gps * len(left) + extra - len(held)
        return max(0, min(need, free))

    def is_enough(self, held: list[str], more: int, takes: int) -> bool:
        """Whether so many takes can be made, each of different groups, if `more` are drawn."""
        most, count = self.periods.max_uses, self.periods.groups_per_step
        left = [most] * (len(held) + more) + [most - self.draws[name].uses for name in self.used]
        for _ in range(takes):
            left.sort(reverse=True)
            if len(left) < count or not left[count - 1]:
                return False
            left = [uses - (place < count) for place, uses in enumerate(left)]
        return True

    @property
    def iteration(self) -> int:
        return self.step // self.periods.updates_per_batch

    @property
    def fresh(self) -> int:
        """Of the take to come."""
        count, history = self.periods.groups_per_step, self.periods.history
        if not history or 0 < history.until <= self.iteration:
            return count
        rollouts = (1 - history.share) * count * G
        share = rollouts // 8 * 8 or rollouts
        return max(1, int(share // G), count - len(self.window))

    def draw(self, worker: WorkerId, version: int, limit: int) -> list[tuple[str, int]]:
        held = self.flying(worker)
        room = min(limit, self.need)
        if version != self.version or room == 0:
            return []
        names: list[str] = []
        is_under_suspicion = any(self.is_suspect(name) for name in held)
        if is_under_suspicion or not held:
            for name in filter(self.is_suspect, self.queue):
                together = [*held, *names, name]
                if len(names) < room and all(
                    len(together) <= self.draws[other].max_in_engine for other in together
                ):
                    names.append(name)
        if not names and not is_under_suspicion:
            names = [name for name in self.queue if not self.is_suspect(name)][:room]
            while len(names) < room and len(self.draws) != self.size:
                names.append(str(len(self.draws)))
                self.draws[names[-1]] = Draw()
        for name in names:
            self.queue = [other for other in self.queue if other != name]
            self.clock += 1
            draw = self.draws[name]
            draw.place, draw.worker, draw.since = "in_flight", worker, self.clock
            draw.version = version
        return [(name, self.draws[name].attempt) for name in names]

    def is_suspect(self, name: str) -> bool:
        return self.draws[name].max_in_engine > 0

    def holds(self, worker: WorkerId, name: str, attempt: int) -> bool:
        draw = self.draws[name]
        return (draw.place, draw.worker, draw.attempt) == ("in_flight", worker, attempt)

    def back(self, names: list[str]) -> None:
        for name in names:
            self.draws[name].place = "queued"
            self.draws[name].attempt += 1
        self.queue = names + self.queue

    def end(self, name: str, fate: str) -> None:
        self.draws[name].place = fate

    def kill(self, worker: WorkerId) -> None:
        self.dead.add(worker)
        lost = self.flying(worker)
        for name in lost:
            draw = self.draws[name]
            draw.deaths += 1
            tries = self.periods.max_deaths - draw.deaths
            draw.max_in_engine = max(
                (c for c in range(1, len(lost) + 1) if c**tries <= len(lost) ** (tries - 1)),
                default=1,
            )
        hopeless = [n for n in lost if self.draws[n].deaths >= self.periods.max_deaths]
        for name in hopeless:
            self.end(name, "failed")
        self.back([name for name in lost if name not in hopeless])

    def take(self) -> list[str]:
        """The groups of a take that were not used before."""
        taken = sorted(self.buffer, key=lambda name: self.draws[name].version)[: self.fresh]
        self.buffer = [name for name in self.buffer if name not in taken]
        for name in taken:
            self.draws[name].place, self.draws[name].born = "leased", self.iteration
        self.leased += taken
        return taken

    def take_again(self, names: list[str], count: int) -> None:
        """Check which used groups were leased once more: the least used."""
        assert len(set(names)) == len(names) == min(count, len(self.used))
        assert set(names) <= set(self.used)
        others = [self.draws[name].uses for name in self.used if name not in names]
        assert all(self.draws[name].uses <= min(others, default=99) for name in names)
        self.again += names

    def close(self, skipped: bool) -> list[str]:
        """The learner has made its steps of a take; the draws that get their fate by it."""
        names, again, self.leased, self.again = self.leased, self.again, [], []
        self.end_step()
        for name in names + again:
            self.draws[name].uses += 1
        kept = [] if skipped else names
        most = self.periods.max_uses
        self.used = [name for name in self.used + kept if self.draws[name].uses < most]
        if history := self.periods.history:
            is_over = 0 < history.until <= self.iteration
            oldest = self.iteration - history.iterations
            recent = [n for n in self.window + kept if self.draws[n].born >= oldest]
            self.window = [] if is_over else recent
        for name in names:
            self.end(name, "dropped" if skipped else "trained")
        return names + again

    def advance(self, step: int) -> None:
        self.served.append(step)
        self.begin = step
        kept = [name for name in self.buffer if self.draws[name].version in self.usable]
        going_on = [name for name in self.flying() if self.draws[name].version in self.usable]
        self.switch(kept, going_on if self.periods.drains else [])
        self.trained_versions = self.usable

    def lead(self) -> bool:
        end = self.period_end
        takes = (end - self.step) // self.periods.updates_per_batch
        keep = self.periods.groups_per_step * takes - len(self.leased)
        if len(self.buffer) < keep or self.step == self.version:
            return False
        self.served.append(self.step)
        self.begin = end
        self.switch(self.buffer[:keep], [])
        return True

    def switch(self, kept: list[str], going_on: list[str]) -> None:
        cleared = [name for name in self.buffer if name not in kept]
        for name in cleared:
            self.draws[name].max_in_engine = 0
        self.buffer, self.used = kept, []
        self.back([name for name in self.flying() if name not in going_on] + cleared)

    def end_step(self) -> None:
        self.step += self.periods.updates_per_batch
        if self.step == self.begin:
            assert not self.buffer
            self.buffer, self.ahead, self.trained_versions = self.ahead, [], self.usable

    def resume(self) -> None:
        self.dead.clear()
        self.buffer = self.leased + self.buffer
        self.leased, self.again = [], []
        for name in self.buffer:
            self.draws[name].place = "buffered"
        self.back(self.flying())


@dataclass(frozen=True)
class Ticket:
    """A draw as a worker once got it; it may be used again long after."""

    worker: WorkerId
    prompt: Prompt
    version: int


def scored(prompt: Prompt, version: int, rewards: tuple[float, ...]) -> ScoredGroup:
    rollout = Rollout(
        token_ids=np.array([1], np.int32),
        inference_logprobs=np.zeros(1, np.float32),
        finish_reason="stop",
        text="",
        first_version=version,
        last_version=version,
    )
    rollouts = (rollout,) * len(rewards)
    group = Group(prompt=prompt, rollouts=rollouts, version=version, sampling=Sampling())
    return ScoredGroup(
        group=group, rewards=np.array(rewards, np.float32), verdicts=({},) * len(rewards)
    )


def drop_uniform(group: ScoredGroup) -> Credit:
    uniform = float(np.ptp(group.rewards)) == 0
    return Credit(values=group.rewards, dropped="uniform" if uniform else None)


class ReplayMachine(RuleBasedStateMachine):
    AGAIN: tuple[str, ...] = ("",)
    """How groups that were used may come again: as later uses, as history, or not at all."""

    @initialize(
        gps=st.integers(1, 3),
        interval=st.integers(1, 4),
        max_lead=st.sampled_from([0, 1, 2, 9]),
        max_steps=st.integers(1, 9),
        extra_room=st.integers(0, 6),
        surplus=st.sampled_from([0.0, 0.3, 1.0]),
        max_deaths=st.sampled_from([1, 2, 3, 9]),
        size=st.sampled_from([None, None, 0, 1, 5, 12]),
        max_versions=st.sampled_from([1, 1, 2, 3]),
        drains=st.booleans(),
        passes=st.sampled_from([1, 1, 2]),
        kind=st.integers(0, 1),
        max_uses=st.integers(2, 4),
        share=st.sampled_from([0.4, 0.8]),
        until=st.sampled_from([0, 0, 1, 3]),
    )
    def begin(
        self,
        gps: int,
        interval: int,
        max_lead: int,
        max_steps: int,
        extra_room: int,
        surplus: float,
        max_deaths: int,
        size: int | None,
        max_versions: int,
        drains: bool,
        passes: int,
        kind: int,
        max_uses: int,
        share: float,
        until: int,
    ) -> None:
        again = self.AGAIN[kind % len(self.AGAIN)]
        is_mixed = again == "history"
        if again:
            max_lead, surplus, max_versions = 0, 0.0, 1
        if again == "uses":
            interval, max_steps, extra_room = interval + 1, max_steps + 3, extra_room // 2
        if is_mixed:
            gps, interval = 3 * gps, 1  # up to 18 rollouts a take
        periods = PeriodNeeds(
            groups_per_step=gps,
            interval=passes * interval,
            max_steps=passes * max_steps,
            capacity=gps + extra_room,
            group_size=G,
            surplus=surplus,
            max_deaths=max_deaths,
            max_versions=max_versions,
            drains=drains,
            updates_per_batch=passes,
            max_uses=max_uses if again == "uses" else 1,
            history=History(share=share, iterations=2, until=until) if is_mixed else None,
        )
        max_lead = max_lead if max_versions == 1 else 0
        self.oracle = Oracle(periods=periods, max_lead=max_lead, size=size)
        self.ledger = self.new_ledger()
        self.tickets: list[Ticket] = []
        self.workers = [WorkerId(index=FAST), WorkerId(index=SLOW)]
        self.holds = [0, 0]  # the version in each worker's engine
        self.saved: tuple[bytes, Oracle, list[Ticket]] | None = None

    def new_ledger(self) -> Ledger:
        source = Source(self.oracle.size)
        return Ledger(source, drop_uniform, self.oracle.periods, self.note_fate)

    def note_fate(self, fate: Fate) -> None:
        assert fate.id not in self.oracle.fates, f"two fates for draw {fate.id}"
        self.oracle.fates[fate.id] = fate.kind

    # Workers

    def ask(self, index: int, limit: int) -> list[Ticket]:
        worker, version = self.workers[index], self.holds[index]
        expected = self.oracle.draw(worker, version, limit)
        got = self.ledger.draw(worker, version, limit)
        assert [(prompt.id, prompt.attempt) for prompt in got] == expected
        tickets = [Ticket(worker, prompt, version) for prompt in got]
        self.tickets += tickets
        return tickets

    @rule(index=st.sampled_from([FAST, SLOW]), limit=st.integers(1, 4), loads=LIKELY)
    def a_worker_asks(self, index: int, limit: int, loads: bool) -> None:
        if loads:
            self.holds[index] = self.oracle.version
        self.ask(index, limit if index == FAST else 1)

    def put(self, ticket: Ticket, version: int, rewards: tuple[float, ...]) -> None:
        oracle, name = self.oracle, ticket.prompt.id
        group = scored(ticket.prompt, version, rewards)
        if ticket.worker in oracle.dead:
            with pytest.raises(StaleError):
                self.ledger.put(ticket.worker, group)
            return
        is_held = oracle.holds(ticket.worker, name, ticket.prompt.attempt)
        answer = self.ledger.put(ticket.worker, group)
        if not is_held:
            assert answer.startswith("refused:")
        elif version != ticket.version:
            assert answer == "refused:stale"
            oracle.back([name])
        elif len(rewards) != G:
            assert answer == "refused:incomplete"
            oracle.back([name])
        elif len(set(rewards)) == 1:
            assert answer == "dropped:uniform"
            oracle.end(name, "dropped")
        else:
            assert answer == "kept"
            oracle.draws[name].place = "buffered"
            (oracle.ahead if oracle.is_ahead else oracle.buffer).append(name)

    def held_tickets(self) -> list[Ticket]:
        holds = self.oracle.holds
        return [t for t in self.tickets if holds(t.worker, t.prompt.id, t.prompt.attempt)]

    @precondition(lambda self: self.held_tickets())
    @rule(data=st.data(), differ=st.lists(LIKELY, min_size=1, max_size=4))
    def groups_are_done(self, data: st.DataObject, differ: list[bool]) -> None:
        for rewards_differ in differ:
            if held := self.held_tickets():
                ticket = data.draw(st.sampled_from(held))
                self.put(ticket, ticket.version, (0.0, 1.0) if rewards_differ else (1.0, 1.0))

    @precondition(lambda self: self.held_tickets())
    @rule(data=st.data(), shift=st.sampled_from([0, 0, -1, 1]), size=st.integers(0, 3))
    def a_group_is_wrong(self, data: st.DataObject, shift: int, size: int) -> None:
        ticket = data.draw(st.sampled_from(self.held_tickets()))
        version = data.draw(st.sampled_from([ticket.version, *self.oracle.usable]))
        self.put(ticket, version + shift, (0.0, 1.0, 0.0)[:size])

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), by_its_worker=LIKELY)
    def a_group_comes_twice_or_late(self, data: st.DataObject, by_its_worker: bool) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        if not by_its_worker:
            ticket = replace(ticket, worker=self.workers[1 - ticket.worker.index])
        self.put(ticket, ticket.version, (0.0, 1.0))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), fails=st.booleans())
    def a_draw_is_given_back_or_fails(self, data: st.DataObject, fails: bool) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        oracle, prompt = self.oracle, ticket.prompt
        act = self.ledger.fail if fails else self.ledger.give_back
        if ticket.worker in oracle.dead:
            with pytest.raises(StaleError):
                act(ticket.worker, prompt, "cause", 1)
            return
        is_held = oracle.holds(ticket.worker, prompt.id, prompt.attempt)
        act(ticket.worker, prompt, "cause", 1)
        if is_held and fails:
            oracle.end(prompt.id, "failed")
        elif is_held:
            oracle.back([prompt.id])

    @precondition(lambda self: self.held_tickets())
    @rule(index=st.sampled_from([FAST, SLOW]), other_asks=LIKELY)
    def a_worker_dies_and_is_restarted(self, index: int, other_asks: bool) -> None:
        worker = self.workers[index]
        self.oracle.kill(worker)
        self.ledger.release(worker)
        self.workers[index] = WorkerId(index=index, incarnation=worker.incarnation + 1)
        self.holds[index] = -1
        if other_asks:
            self.ask(1 - index, 2)

    # The learner

    def can_take(self) -> bool:
        oracle = self.oracle
        can = self.ledger.can_take(oracle.periods.groups_per_step)
        return can and not self.has_leased() and oracle.step < oracle.period_end

    def has_leased(self) -> bool:
        return bool(self.oracle.leased or self.oracle.again)

    @invariant()
    def the_learner_gets_full_batches_until_the_data_is_used_up(self) -> None:
        oracle, count = self.oracle, self.oracle.periods.groups_per_step
        is_used_up = len(oracle.draws) == oracle.size and self.ledger.exhausted
        is_over = is_used_up and not oracle.queue and not oracle.at("in_flight")
        is_there = len(oracle.buffer) >= oracle.fresh
        if not oracle.at("in_flight") and not oracle.need:
            is_there = len(oracle.buffer) + len(oracle.used) >= oracle.fresh
        assert self.ledger.can_take(count) == (is_there or is_over)

    @precondition(lambda self: self.can_take())
    @rule()
    def learner_takes(self) -> None:
        periods, oracle = self.oracle.periods, self.oracle
        count, share = periods.groups_per_step, oracle.fresh
        expected = oracle.take()
        groups = self.ledger.take(count)
        assert groups is None or groups
        names = [group.id for group in groups or () if not group.is_history]
        lent = [group.id for group in groups or () if group.is_history]
        assert names[: len(expected)] == expected
        oracle.take_again(names[len(expected) :], share - len(expected))
        assert set(lent) <= set(oracle.window)
        assert len(set(lent)) == len(lent) == (count - share) * len(expected) // share
        for group in groups or ():
            if group.is_history:
                continue
            lag = self.oracle.step - group.scored.group.version
            assert group.scored.group.version in self.oracle.trained_versions
            lead = min(self.oracle.max_lead, periods.interval)
            assert lag <= periods.max_versions * periods.interval - 1 + lead

    @precondition(lambda self: self.has_leased())
    @rule(skipped=st.sampled_from([False, False, True]))
    def learner_steps(self, skipped: bool) -> None:
        names = self.oracle.close(skipped)
        if skipped:
            self.ledger.drop(names, "non_finite", self.oracle.step)
        else:
            self.ledger.trained(names, self.oracle.step)

    def is_sync_due(self) -> bool:
        oracle = self.oracle
        due = oracle.step == oracle.period_end and oracle.step > oracle.version
        return due and not self.has_leased() and oracle.step < oracle.periods.max_steps

    @precondition(lambda self: self.is_sync_due())
    @rule()
    def learner_synchronises(self) -> None:
        self.ledger.advance(self.oracle.step)
        self.oracle.advance(self.oracle.step)

    def may_lead(self) -> bool:
        oracle = self.oracle
        end = oracle.period_end
        in_reach = 0 < end - oracle.step <= oracle.max_lead and end < oracle.periods.max_steps
        return in_reach and not oracle.is_ahead

    @precondition(lambda self: self.may_lead())
    @rule()
    def learner_publishes_ahead(self) -> None:
        step, begin = self.oracle.step, self.oracle.period_end
        assert self.ledger.lead(step, begin) == self.oracle.lead()

    # The process

    @rule()
    def a_snapshot_is_saved(self) -> None:
        state = plain_pickles.dumps(self.ledger.snapshot())
        self.saved = (state, copy.deepcopy(self.oracle), list(self.tickets))

    @precondition(lambda self: self.saved is not None)
    @rule(restarts=st.booleans())
    def the_run_is_killed_and_resumed(self, restarts: bool) -> None:
        """All workers begin anew, under the same names; what they held before may still arrive."""
        assert self.saved is not None
        state, oracle, tickets = self.saved
        self.oracle, self.tickets = copy.deepcopy(oracle), list(tickets) if restarts else []
        self.ledger = self.new_ledger()
        self.ledger.restore(plain_pickles.loads(state))
        self.oracle.resume()
        self.workers = [WorkerId(index=FAST), WorkerId(index=SLOW)]
        self.holds = [self.oracle.version, self.oracle.version]

    # What always holds

    @invariant()
    def every_draw_is_where_the_oracle_says(self) -> None:
        counts = self.ledger.counts()
        places = ("queued", "in_flight", "buffered", "leased")
        assert counts == {
            "drawn": len(self.oracle.draws),
            **{name: len(self.oracle.at(name)) for name in places + FATES},
        }
        assert self.oracle.fates == {
            name: draw.place for name, draw in self.oracle.draws.items() if draw.place in FATES
        }

    @invariant()
    def each_buffer_is_of_its_versions_and_both_are_within_capacity(self) -> None:
        state, oracle = self.ledger.snapshot(), self.oracle
        assert self.ledger.usable == oracle.usable
        versions = {group.scored.group.version for group in state["buffer"]}
        assert versions <= set(oracle.trained_versions)
        assert len(versions) <= oracle.periods.max_versions
        assert {group.scored.group.version for group in state["ahead"]} <= {oracle.version}
        assert oracle.is_ahead or not state["ahead"]
        held = len(state["buffer"]) + len(state["ahead"]) + len(state["in_flight"])
        assert held + len(state["used"]) <= oracle.periods.capacity
        assert {g.id: uses for g, uses in state["used"]} == {
            name: oracle.draws[name].uses for name in oracle.used
        }
        assert {group.id for group in state["history"]} == set(oracle.window)
        assert [group.id for group in state["ahead"]] == oracle.ahead
        assert self.ledger.need() == self.oracle.need

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            self.ends_now_or_later()

    def ends_now_or_later(self) -> None:
        """No draw is left without a fate, whatever state a stop finds."""
        stopped = Ledger(Source(self.oracle.size), drop_uniform, self.oracle.periods)
        stopped.restore(self.ledger.snapshot())
        self.drain()
        for ledger in (stopped, self.ledger):
            ledger.finish()
            counts = ledger.counts()
            assert counts["drawn"] == sum(counts[fate] for fate in FATES)
        assert set(self.oracle.fates) == set(self.oracle.draws)

    def drain(self) -> None:
        """Honest workers and an honest learner: at most `bound` rounds to the end of the run."""
        periods, oracle = self.oracle.periods, self.oracle
        bound = 2 * (periods.max_steps + 1) * (periods.groups_per_step + len(oracle.draws) + 2)
        for _ in range(bound):
            if self.is_at_end():
                return
            self.honest_round(finishes_all=True)
        raise AssertionError(f"no end after {bound} rounds: {self.ledger.counts()}")

    def is_at_end(self) -> bool:
        oracle = self.oracle
        if oracle.step == oracle.periods.max_steps and not self.has_leased():
            return True
        is_data_used_up = self.ledger.exhausted and len(oracle.draws) == oracle.size
        return is_data_used_up and len(oracle.fates) == len(oracle.draws)

    def honest_round(self, finishes_all: bool, slow_asks: bool = True) -> None:
        oracle = self.oracle
        if self.has_leased():
            self.learner_steps(False)
        if self.is_sync_due():
            self.learner_synchronises()
        self.holds = [oracle.version, oracle.version]
        for ticket in reversed(self.held_tickets()):  # a slow group comes after newer ones
            if finishes_all or ticket.worker.index == FAST:
                assert ticket.version in oracle.usable
                self.put(ticket, ticket.version, (0.0, 1.0))
        if slow_asks:
            self.ask(SLOW, 1)
        self.ask(FAST, 2)
        if self.can_take():
            self.learner_takes()
        if self.may_lead():
            self.learner_publishes_ahead()

    @rule(rounds=st.integers(1, 6), slow_one_finishes=LIKELY)
    def a_while_goes_by(self, rounds: int, slow_one_finishes: bool) -> None:
        for _ in range(rounds):
            self.honest_round(finishes_all=slow_one_finishes)

    @precondition(lambda self: self.oracle.periods.drains and self.oracle.periods.max_versions > 1)
    @rule()
    def a_slow_group_outlives_its_version(self) -> None:
        version = self.oracle.version
        self.holds[SLOW] = version
        self.ask(SLOW, 1)
        for _ in range(3 * self.oracle.periods.interval):
            if self.oracle.version == version:
                self.honest_round(finishes_all=False, slow_asks=False)
        self.honest_round(finishes_all=True)


class AgainMachine(ReplayMachine):
    AGAIN = ("uses", "history")


EXAMPLES = int(os.environ.get("OAPL_EXAMPLES", "500"))
"""More of them, where replay changes: `OAPL_EXAMPLES=2000 python -m pytest` of this file."""
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestReplay = ReplayMachine.TestCase
TestReplay.settings = SETTINGS
TestReplayAgain = AgainMachine.TestCase
TestReplayAgain.settings = settings(SETTINGS, max_examples=EXAMPLES * 2 // 5)

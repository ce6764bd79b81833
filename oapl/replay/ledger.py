"""The rules of the replay buffer: where every draw of a prompt is, and how it ends.

Invariants:
- A draw is in exactly one place: queued, in flight, buffered or leased; it leaves by exactly one
  fate: trained, dropped, failed, unfinished. So drawn = sum of places + sum of fates, always.
- A buffer holds groups of one version. There are two: the learner takes from one, and once the next
  version is served ahead of its period (`lead`), new groups go into the other, which takes the
  first one's place at the period's end. Without a lead only one is in use; `advance` clears it.
- Where stragglers are moved, the next version is served ahead as soon as few engines can end the
  last groups of the present one (`oapl.replay.behind`): for so long groups of either are accepted,
  each into its own buffer; what is lost on the way is made up for by groups of the next version.
- With `max_uses` > 1 a group whose first use was applied may be leased again within its period,
  once all of the period's groups have been used (`oapl.replay.uses`). With an objective that mixes
  in history a take is lent groups of earlier iterations beside fresh ones (`oapl.replay.history`).
  Both keep the fate of their first use; of these uses only the number is counted. A group whose
  first use was skipped is dropped, is not used again, and makes room for another.
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
from collections.abc import Callable, Sequence
from dataclasses import replace

from oapl.interfaces import PromptSource
from oapl.records import (
    Credit,
    CreditedGroup,
    Fate,
    FateKind,
    Group,
    Metrics,
    Prompt,
    ScoredGroup,
    State,
    Unfinished,
    WorkerId,
)
from oapl.replay.behind import Behind, chosen
from oapl.replay.counts import ReplayCounts, observed
from oapl.replay.draws import Draws
from oapl.replay.fates import Fates
from oapl.replay.groups import Groups
from oapl.replay.periods import PeriodNeeds
from oapl.stragglers import behind


class Ledger:
    """Prompt queue, draws in flight, buffer, leases and fates: one consistent cut.

    Its acts are those of `oapl.interfaces.Replay` and `oapl.interfaces.Batches`, without the waits.

    Args:
        source: Where new draws come from; its cursor is part of the snapshot.
        credit: The objective's `credit`.
        periods: How many groups the run asks for.
        on_fate: Told of every fate as it falls.
        seed: From which the order of later uses and the choice of history follow.
        version: Served first.

    Attributes:
        periods: As given.
        usable: Versions accepted and kept, oldest first; the last one is served.
        begin: Learner step at which the period that `version` feeds begins.
        step: Learner steps made.
        finished: `finish` was called.
    """

    def __init__(
        self,
        source: PromptSource,
        credit: Callable[[ScoredGroup], Credit],
        periods: PeriodNeeds,
        on_fate: Callable[[Fate], None] | None = None,
        seed: int = 0,
        version: int = 0,
    ) -> None:
        self.periods = periods
        self.usable: tuple[int, ...] = (version,)
        self.begin = 0
        self.step = 0
        self.finished = False
        self._credit = credit
        self._draws = Draws(source, periods)
        self._groups = Groups(periods, seed)
        self._behind = Behind()
        self._dropped = 0  # by the filter, in the served version's period
        self._fates = Fates(on_fate)
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

    @property
    def exhausted(self) -> bool:
        """Whether the source has no more draws."""
        return self._draws.exhausted

    @property
    def first_failure(self) -> str:
        """Cause of the first draw that failed here; empty while none has."""
        return self._fates.first_failure

    def need(self) -> int:
        """How many more draws may be handed out now."""
        if self.finished:
            return 0
        old = self._num_behind
        now = self._draws.num_in_flight - old
        lost = 0 if self._behind.workers else self._lost
        return max(0, self._groups.need(self.begin, self.step, now, old, lost))

    def _need_behind(self) -> int:
        """How many draws those that stay behind may be given beside what was moved to them."""
        room = self.periods.capacity - self._groups.num_unused - self._draws.num_in_flight
        return max(0, min(self._lost, room - self._draws.num_moved))

    @property
    def _num_behind(self) -> int:
        """Draws in flight under the version before the served one, in a period that was led."""
        if not self.is_ahead:
            return 0
        return self._draws.num_in_flight - self._draws.num_under(self.version)

    @property
    def _lost(self) -> int:
        """Groups that the period in training lacks and that nobody makes."""
        lacking = self._groups.lacking(self.begin, self.step)
        return max(0, lacking - self._num_behind - self._draws.num_moved)

    def serves(self, worker: WorkerId, version: int) -> bool:
        """Whether a worker that holds `version` can get draws at all."""
        is_served = version == self.version or self._behind.has(worker, version)
        return is_served and not self.finished

    def stays(self, worker: WorkerId) -> bool:
        """Whether the worker keeps the version before for its last groups."""
        return worker in self._behind.workers and not self.finished

    def draw(self, worker: WorkerId, version: int, limit: int) -> list[Prompt | Unfinished]:
        """Hand out draws to a worker that holds the served version, or stays behind, else none.

        Who stays behind gets first what was moved. Returned draws go before new ones. Suspects,
        retried after a death, share an engine with suspects only, and at most as many as each one's
        `max_in_engine` allows. A worker with nothing in flight gets them before any other draw, so
        that they cannot starve.

        Args:
            worker: Who asks.
            version: What its engine holds.
            limit: Most draws.

        Raises:
            StaleError: The worker was released.
        """
        self._draws.refuse_released(worker, "asked for prompts")
        if not self.serves(worker, version):
            return []
        if version == self.version and self.stays(worker):  # it has loaded, by whatever way
            self.leave(worker)
        moved: list[Prompt | Unfinished] = []
        need = self.need()
        if version != self.version:
            moved += self._draws.hand_out_moved(worker, limit)
            need = self._need_behind()
        room = min(limit - len(moved), need)
        return [*moved, *(self._draws.hand_out(worker, version, room) if room > 0 else ())]

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
        if self._draws.is_released(worker):
            self._counts.refuse("released", group.num_tokens)
        self._draws.refuse_released(worker, f"put group {group.prompt.id}")
        why = self._why_refused(worker, scored)
        if why:
            self._counts.refuse(why, group.num_tokens)
            if self._draws.holds(worker, group.prompt):
                self._return(group.prompt, why)
                self._go_on()
            return f"refused:{why}"
        self._draws.is_proven = True
        credit = self._credit(scored)
        self._draws.settle(group.prompt)
        self._counts.accept(observed(scored, credit))
        if credit.dropped is not None:
            if self._dropped < self.periods.droppable(self.begin, len(self._groups.window)):
                self._dropped += 1
                self._close(group.prompt, "dropped", credit.dropped)
                self._go_on()
                return f"dropped:{credit.dropped}"
            credit = replace(credit, dropped=None)
            self._counts.count("replay/spared")
        is_next = self.is_ahead and group.version == self.version
        buffer = self._groups.ahead if is_next else self._groups.buffer
        buffer[group.prompt.id] = CreditedGroup(scored=scored, credit=credit)
        self._go_on()
        return "kept"

    def _why_refused(self, worker: WorkerId, scored: ScoredGroup) -> str:
        if self.finished:
            return "finished"
        group = scored.group
        why = self._draws.why_refused(worker, group.prompt, group.version, self.usable)
        return why or ("" if self._is_complete(group, scored) else "incomplete")

    def _is_complete(self, group: Group, scored: ScoredGroup) -> bool:
        whole = all(rollout.finish_reason != "abort" for rollout in group.rollouts)
        sizes = {len(group.rollouts), len(scored.rewards), len(scored.verdicts)}
        return whole and sizes == {self.periods.group_size}

    def give_back(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """Return a draw to the front of the queue. See `oapl.interfaces.Replay.give_back`.

        When the worker no longer holds it (a synchronisation took it back already), only the
        tokens are counted.
        """
        self._draws.refuse_released(worker, f"gave back {prompt.id}")
        self._counts.waste(num_tokens, self.periods.group_size)
        if self._draws.holds(worker, prompt):
            self._return(prompt, cause)
            self._go_on()

    def hand_over(self, worker: WorkerId, unfinished: Unfinished) -> None:
        """Take a group that was cut off, for one who stays behind. See `Replay.hand_over`.

        Where nobody does, or the prompt is a suspect, its draw goes back as `aborted`.
        """
        prompt = unfinished.prompt
        others = self._behind.workers - {worker}
        is_moved = self._draws.is_under(self._behind.version, worker, prompt) and others
        if not is_moved or prompt.max_in_engine:
            self.give_back(worker, prompt, "aborted", unfinished.num_tokens)
            return
        self._draws.refuse_released(worker, f"handed over {prompt.id}")
        self._counts.count("replay/moved_groups")
        self._counts.count("replay/moved_tokens", unfinished.num_going_on)
        self._draws.move(unfinished)

    def leave(self, worker: WorkerId) -> None:
        """The worker stays behind no longer; it is about to load the served version."""
        self._behind.workers.discard(worker)
        self._go_on()

    def _go_on(self) -> None:
        """Let the engines behind go when the last group has come; fill the places of lost ones."""
        if not self.is_ahead:
            return
        if not self._groups.lacking(self.begin, self.step):
            if self._behind.version >= 0:
                self._part()
        elif not self._behind.workers:
            for lost in self._draws.forget_moved():
                self._counts.waste(lost.num_tokens, self.periods.group_size)
            self._counts.count("replay/filled_groups", self._groups.fill(self._lost))

    def _part(self) -> None:
        """Accept the served version alone from now on."""
        self.usable = self.usable[-self.periods.max_versions :]
        for lost in self._draws.forget_moved():
            self._counts.waste(lost.num_tokens, self.periods.group_size)
        late = self._draws.recall(lambda flight: flight.version == self.version)
        self._counts.count("rollout/aborted_groups", len(late))
        self._draws.requeue(late)
        self._behind = Behind()

    def fail(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """End a draw that cannot be sampled or scored. See `oapl.interfaces.Replay.fail`."""
        self._draws.refuse_released(worker, f"failed {prompt.id}")
        self._counts.waste(num_tokens, self.periods.group_size)
        if self._draws.holds(worker, prompt):
            self._close(self._draws.land(prompt), "failed", cause)
            self._go_on()

    def _return(self, prompt: Prompt, cause: str) -> None:
        self._counts.count("replay/returned")
        self._counts.count(f"replay/returned/{cause}")
        self._draws.give_back(prompt)

    def release(self, worker: WorkerId) -> None:
        """Take a dead worker's draws back: each counts a death and is a suspect now, or fails."""
        death = self._draws.release(worker)
        self._counts.count("replay/deaths", death.num_lost)
        for prompt, deaths in death.hopeless:
            self._close(prompt, "failed", f"{deaths} engines died under it")
        self.leave(worker)

    # Training

    def is_over(self) -> bool:
        """Nothing more can come: the source is exhausted and no draw is queued or in flight."""
        return self._draws.is_over()

    def is_hopeless(self) -> bool:
        """Whether no group has come and none will: each of the first draws has failed."""
        return self._draws.is_hopeless()

    def can_take(self, count: int) -> bool:
        """Whether `take` would give `count` groups, or all that is left."""
        all_came = not self._draws.num_in_flight and not self.need()
        return self._groups.can_take(count, self.step, all_came=all_came) or self.is_over()

    def missing(self, count: int) -> int:
        """How many groups have yet to come before `take` gives `count`; none for 0."""
        return self._groups.missing(count, self.step) if count else 0

    def take(self, count: int) -> list[CreditedGroup] | None:
        """Lease groups, see `Groups.take`; at the end of the data what is left, then None."""
        assert self.can_take(count), "take before can_take"
        groups = self._groups.take(count, self.begin, self.step)
        versions = [group.scored.group.version for group in groups if not group.is_history]
        self._counts.lease(self.step - version for version in versions)
        return groups or None

    def trained(self, ids: Sequence[str], step: int) -> None:
        """Close leases of groups trained on. See `oapl.interfaces.Batches.trained`."""
        self._close_leases(ids, "trained", "", step)

    def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Close leases whose step was skipped. See `oapl.interfaces.Batches.drop`."""
        self._close_leases(ids, "dropped", reason, step)

    def _close_leases(self, ids: Sequence[str], kind: FateKind, detail: str, step: int) -> None:
        missing = [id for id in ids if not self._groups.is_leased(id)]
        assert not missing, f"step {step} closes groups that are not leased: {missing}"
        assert step >= self.step, f"learner step went back from {self.step} to {step}"
        was_ahead, self.step = self.is_ahead, step
        for id in ids:
            if prompt := self._groups.close(id, is_applied=kind == "trained"):
                self._close(prompt, kind, detail)
        self._counts.use_again(*self._groups.used_again())
        self._groups.window.expire(step)
        if was_ahead and not self.is_ahead:
            self._part()
            self._groups.turn()

    def advance(self, step: int) -> None:
        """Serve version `step`, whose period begins now: clear the buffer and take back all draws.

        Groups of the `max_versions` newest versions, this one included, stay, and so do their draws
        in flight where engines drain. Serving the same version again changes nothing.
        """
        assert step >= self.version, f"version went back from {self.version} to {step}"
        assert step >= self.step, f"version {step} is older than learner step {self.step}"
        leased = self._groups.num_leased
        assert not leased, f"version moved to {step} with {leased} groups leased"
        assert not self.is_ahead, f"version {self.version} already feeds the period of {self.begin}"
        if step == self.version:
            return
        self._serve(step, begin=step, keep=0)
        self.step = step

    def may_lead(self, begin: int) -> bool:
        """Whether `lead` would serve the learner's version ahead of the period that begins then."""
        is_free = not self.is_ahead and self.step != self.version
        return is_free and (self._keeps(begin) is not None or bool(self._stay(begin)))

    def _keeps(self, begin: int) -> int | None:
        """Groups that the present period still trains on; None while it lacks any."""
        keep = self.periods.groups_of(begin - self.step) - len(self._groups.leased)
        return keep if len(self._groups.buffer) >= keep else None

    def _stay(self, begin: int) -> frozenset[WorkerId]:
        """Who would stay behind."""
        groups = max(self._groups.lacking(begin, self.step), self._draws.num_in_flight)
        count = behind(groups, self.periods.engines, self.periods.groups_per_engine)
        return chosen(self._draws.by_worker(), count) if count else frozenset()

    def lead(self, step: int, begin: int) -> bool:
        """Serve version `step` ahead of its period. See `oapl.interfaces.Batches.lead`.

        The groups that the present period needs stay for the learner; so do draws in flight, where
        it lacks some that few engines can end.

        Returns:
            False when it lacks groups, or no step was made since the last publication.
        """
        assert step == self.step, f"version {step} would lead, but learner step is {self.step}"
        assert not self.is_ahead, f"version {self.version} already feeds the period of {self.begin}"
        assert self.periods.max_versions == 1, "a lead needs a buffer of one version"
        assert self.periods.max_uses == 1, "a lead needs groups that are used once"
        assert self.periods.history is None, "a lead needs takes without history"
        end = self.periods.period_end(self.begin, self.step)
        assert begin == end < self.periods.max_steps, f"no period begins at {begin}"
        if not self.may_lead(begin):
            return False
        if (keep := self._keeps(begin)) is not None:
            self._serve(step, begin, keep)
            return True
        self._behind = Behind(self.version, set(self._stay(begin)))
        self._counts.count("replay/moves")
        self.usable = (self.version, step)
        self.begin, self._dropped = begin, 0
        return True

    def _serve(self, version: int, begin: int, keep: int) -> None:
        """Clear the buffer but for its `keep` oldest groups, and take back what is in flight.

        What is of a version still usable stays. Of the draws taken back the slowest (still in
        flight) come first from now on, then the cleared ones.
        """
        self.usable = (*self.usable, version)[-self.periods.max_versions :]
        cleared = self._groups.clear(keep, self.usable)
        lengths = [len(rollout.token_ids) for group in cleared for rollout in group.rollouts]
        lost = self._draws.recall(lambda f: self.periods.drains and f.version in self.usable)
        self._counts.clear(len(cleared), lengths, len(lost))
        # A group that was finished has shown that its prompt kills no engine.
        innocent = [replace(group.prompt, max_in_engine=0) for group in cleared]
        self._draws.requeue(lost + innocent)
        self._draws.forget_settled(self.usable)
        self.begin, self._dropped = begin, 0

    def finish(self) -> None:
        """The run ends: every draw without a fate is `unfinished`. Take the snapshot before."""
        for prompt in self._groups.empty() + self._draws.clear():
            self._close(prompt, "unfinished", "")
        self.finished = True

    def _close(self, prompt: Prompt, kind: FateKind, detail: str) -> None:
        self._fates.add(prompt, kind, detail, self.step)
        self._draws.ended(prompt, has_failed=kind == "failed")
        if kind in ("dropped", "failed"):
            self._counts.count(f"replay/{kind}")

    # Accounts

    def counts(self) -> dict[str, int]:
        """Draws by fate and by place over the whole run; `drawn` is the sum of the others."""
        places = {
            "queued": self._draws.num_queued,
            "in_flight": self._draws.num_in_flight,
            "buffered": len(self._groups.buffer) + len(self._groups.ahead),
            "leased": len(self._groups.leased),
        }
        drawn = self._draws.drawn
        counts = {"drawn": drawn, **self._fates.by_kind(), **places}
        assert 2 * drawn == sum(counts.values()), f"draws do not add up: {counts}"
        return counts

    def fates(self) -> dict[str, int]:
        """Fates with their details, `dropped:uniform`, over the whole run."""
        return self._fates.by_detail()

    def in_flight_by_worker(self) -> dict[WorkerId, int]:
        """How many draws each worker holds, of those that hold any."""
        return self._draws.by_worker()

    def stats(self) -> Metrics:
        """What happened since the last call, and how full the places are now."""
        versions = [group.scored.group.version for group in self._groups.buffer.values()]
        gauges = {
            "replay/size": float(len(versions)),
            "replay/older": float(sum(version < self.version for version in versions)),
            "replay/ahead": float(len(self._groups.ahead)),
            "replay/in_flight": float(self._draws.num_in_flight),
            "replay/queued": float(self._draws.num_queued),
            "replay/need": float(self.need()),
        }
        if self.periods.history is not None:
            gauges["replay/window"] = float(len(self._groups.window))
        return gauges | self._counts.take()

    def snapshot(self) -> State:
        """Everything that decides what happens next, picklable; leased groups as buffered."""
        return {
            "usable": self.usable[-self.periods.max_versions :],
            "begin": self.begin,
            "step": self.step,
            **self._groups.state(),
            "dropped": self._dropped,
            "fates": self._fates.state(),
            **self._draws.state(),
            "counts": copy.deepcopy(self._counts),
        }

    def restore(self, state: State) -> None:
        """Go on from a snapshot with new workers: what was in flight is drawn again first.

        A smaller `max_versions` than before holds from the next publication on.
        """
        self._draws.restore(state)
        self.usable = state["usable"]
        self.begin, self.step = state["begin"], state["step"]
        self._groups.restore(state)
        served = self._groups.ahead if self.is_ahead else self._groups.buffer
        self._draws.restore_settled([credited.scored.group for credited in served.values()])
        self._dropped = state["dropped"]
        self._fates.restore(state["fates"])
        self._counts = copy.deepcopy(state["counts"])
        self._go_on()
        self.counts()

    def take_over(self, state: State) -> bool:
        """Go on in the data after an ended stage, whose draws all have their fates.

        Args:
            state: Its last snapshot, or that of a queue of examples.

        Returns:
            False where it had other data.
        """
        return "source" in state and self._draws.take_over(state["source"])

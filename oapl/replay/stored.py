"""Stored groups in the place of replay: passes in a seeded order, cut into single rollouts.

Invariants: a group's credit is made once, of all its rewards as generated, so that it is the same
however a filter has thinned the group and wherever a batch cuts it; a take has exactly the rollouts
that were asked for, fewer only at the end of the last pass; each draw of a group, one a pass, has
one fate, which falls with the last of its rollouts: `trained` if a step on one of them was applied,
`dropped` by the objective's filter or with skipped steps; what was leased and not trained on comes
again after a resume, and nothing else does.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from oapl.counters import Moments
from oapl.errors import InputError
from oapl.groups_file import StoredGroup
from oapl.records import (
    Credit,
    CreditedGroup,
    FateKind,
    Group,
    Metrics,
    Prompt,
    ScoredGroup,
    State,
)
from oapl.replay.counts import ReplayCounts, observed
from oapl.replay.fates import Fates
from oapl.replay.layouts import Rows
from oapl.replay.order import OTHER_SET, DrawOrder

OF_THE_MODEL, OF_ANOTHER = 0, -1
"""Versions of stored groups in a run: sampled by the model that it starts from, or by another, so
that no learner step has its policy."""


def credited(
    stored: StoredGroup, credit: Callable[[ScoredGroup], Credit], *, model: bool
) -> CreditedGroup:
    """Credit a stored group as this run will train on it.

    Args:
        stored: As it was read.
        credit: The objective's.
        model: Whether the set was made for the model that this run starts from.
    """
    version = OF_THE_MODEL if model and stored.version == 0 else OF_ANOTHER
    rollouts = tuple(
        dataclasses.replace(rollout, first_version=version, last_version=version)
        for rollout in stored.rollouts
    )
    return dataclasses.replace(stored, version=version, rollouts=rollouts).credited(credit)


def rollout_of(group: CreditedGroup, number: int, id: str) -> CreditedGroup:
    """Cut one rollout out of a group, with the credit that it has there.

    Args:
        group: Of K rollouts.
        number: Which one, 0 to K - 1.
        id: Of what is cut out, as a draw.
    """
    only, scored, inner = slice(number, number + 1), group.scored, group.scored.group
    alone = Group(
        prompt=dataclasses.replace(inner.prompt, id=id),
        rollouts=inner.rollouts[only],
        version=inner.version,
        sampling=inner.sampling,
        seconds=inner.seconds,
    )
    return CreditedGroup(
        scored=ScoredGroup(
            group=alone, rewards=scored.rewards[only], verdicts=scored.verdicts[only]
        ),
        credit=Credit(values=group.credit.values[only]),
    )


@dataclass(slots=True)
class _Draw:
    """A draw that has no fate yet.

    Attributes:
        prompt: Its own, with the id of the draw.
        left: Kept rollouts without a closed lease.
        was_applied: A learner step on one of them was.
        skipped: Why the others were dropped.
    """

    prompt: Prompt
    left: int
    was_applied: bool = False
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """A draw that is cut ahead of its take.

    Attributes:
        row, epoch: Of the draw.
        prompt: Its own, with the id of the draw.
        pieces: Its rollouts; none where the objective's filter drops it.
        moments: What it adds to the report.
        cursor: Of the order, after it.
        passes: Over the set, after it.
    """

    row: int
    epoch: int
    prompt: Prompt
    pieces: tuple[CreditedGroup, ...]
    moments: Mapping[str, Moments]
    cursor: State
    passes: float


class StoredBatches:
    """The groups of a set, as the learner takes them: `oapl.interfaces.Batches`.

    What it calls a group is one rollout with its group's credit.

    Args:
        groups: All of them, in the order of the files.
        seed: The run's.
        epochs: Passes over the set; 0 is without end.
        shuffle: Else the groups come in their own order.

    Attributes:
        digest: Of the groups; a cursor goes on over the same ones only.

    Raises:
        InputError: The objective's filter leaves no group.
    """

    def __init__(
        self, groups: Sequence[CreditedGroup], *, seed: int, epochs: int = 0, shuffle: bool = True
    ) -> None:
        self._groups = tuple(groups)
        if not any(group.credit.dropped is None for group in groups):
            filters = {str(group.credit.dropped) for group in groups}
            raise InputError(nothing_left(len(groups), filters))
        self.digest = _digest_of(groups)
        self._order = DrawOrder(
            [Rows(name="", size=len(groups), digest=self.digest)],
            self.digest,
            seed=seed,
            epochs=epochs,
            shuffle=shuffle,
            other_data=OTHER_SET,
        )
        self._cursor, self._passes = self._order.state(), self._order.passes
        self._ahead: deque[_Cut] = deque()  # beyond the cursor
        self._now: _Cut | None = None  # the group whose rollouts are given out
        self._next = -1  # of them; -1 is none
        self._open: dict[str, _Draw] = {}
        self._leased: dict[str, str] = {}  # piece to draw
        self._before: State | None = None  # while there are leases, the state without them
        self._fates = Fates()
        self._counts = ReplayCounts()
        self._step = 0

    def __len__(self) -> int:
        """Rollouts of one pass that the objective's filter leaves."""
        kept = (group for group in self._groups if group.credit.dropped is None)
        return sum(len(group.scored.group.rollouts) for group in kept)

    def draw(self, count: int) -> list[CreditedGroup]:
        """Lease the next `count` rollouts; fewer at the end of the last pass."""
        self._before = self._before or self._state()
        pieces: list[CreditedGroup] = []
        while len(pieces) < count and (self._next >= 0 or self._begin_next()):
            pieces.append(self._give())
        self._counts.lease(self._step - piece.scored.group.version for piece in pieces)
        return pieces

    def foresee(self, count: int) -> list[CreditedGroup]:
        """Tell what the next takes will give, so that work on it may begin; nothing is leased.

        Args:
            count: Rollouts; there are fewer at the end of the last pass.
        """
        found = list(self._now.pieces[self._next :]) if self._now and self._next >= 0 else []
        found += [piece for cut in self._ahead for piece in cut.pieces]
        while len(found) < count and (cut := self._cut_next()) is not None:
            self._ahead.append(cut)
            found += cut.pieces
        return found[:count]

    def _cut_next(self) -> _Cut | None:
        """Cut the draw that follows on all that were; None at the end of the last pass."""
        if (drawn := self._order.next()) is None:
            return None
        return self._cut_of(*drawn, self._order.state(), self._order.passes)

    def _cut_of(self, row: int, epoch: int, cursor: State, passes: float) -> _Cut:
        """What is cut out of a group; a prompt may be in a set of several folders twice."""
        group = self._groups[row]
        id, size = f"{group.id}#{row}@{epoch}", len(group.scored.group.rollouts)
        is_kept = group.credit.dropped is None
        pieces = (rollout_of(group, place, f"{id}.{place}") for place in range(size * is_kept))
        return _Cut(
            row=row,
            epoch=epoch,
            prompt=dataclasses.replace(group.scored.group.prompt, id=id),
            pieces=tuple(pieces),
            moments=observed(group.scored, group.credit),
            cursor=cursor,
            passes=passes,
        )

    def _begin_next(self) -> bool:
        """Turn to the next group that the filter leaves; False at the end of the last pass."""
        while (cut := self._ahead.popleft() if self._ahead else self._cut_next()) is not None:
            self._now, self._cursor, self._passes = cut, cut.cursor, cut.passes
            self._counts.accept(cut.moments)
            if cut.pieces:
                self._open[cut.prompt.id] = _Draw(cut.prompt, len(cut.pieces))
                self._next = 0
                return True
            dropped = str(self._groups[cut.row].credit.dropped)
            self._fates.add(cut.prompt, "dropped", dropped, self._step)
            self._counts.count("replay/dropped")
        return False

    def _give(self) -> CreditedGroup:
        assert self._now is not None, "no group is begun"
        piece = self._now.pieces[self._next]
        self._leased[piece.id] = self._now.prompt.id
        is_last = self._next + 1 == len(self._now.pieces)
        self._next = -1 if is_last else self._next + 1
        return piece

    async def take(
        self, count: int, timeout_s: float, ahead: int = 0
    ) -> list[CreditedGroup] | None:
        """Give the next rollouts, the rest at the end, then None."""
        return self.draw(count) or None

    async def trained(self, ids: Sequence[str], step: int) -> None:
        """Close leases of rollouts trained on. See `oapl.interfaces.Batches.trained`."""
        self._close(ids, "", step)

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Close leases whose step was skipped. See `oapl.interfaces.Batches.drop`."""
        self._close(ids, reason, step)

    def _close(self, ids: Sequence[str], reason: str, step: int) -> None:
        self._step = step
        for id in ids:
            name = self._leased.pop(id)
            draw = self._open[name]
            draw.left -= 1
            draw.was_applied |= not reason
            draw.skipped = reason or draw.skipped
            if not draw.left:
                self._end(self._open.pop(name))
        if not self._leased:
            self._before = None

    def _end(self, draw: _Draw) -> None:
        if draw.was_applied:
            self._fates.add(draw.prompt, "trained", "", self._step)
        else:
            self._fates.add(draw.prompt, "dropped", draw.skipped, self._step)
            self._counts.count("replay/dropped")

    async def advance(self, step: int) -> None:
        """Note the step: what is stored grows no older by a publication."""
        self._step = step

    async def lead(self, step: int, begin: int) -> bool:
        """Nobody generates, so there is nothing to lead with."""
        return False

    async def finish(self) -> None:
        """End the run: a draw of which no rollout was trained on is `unfinished`."""
        for draw in self._open.values():
            kind: FateKind = "trained" if draw.was_applied else "unfinished"
            self._fates.add(draw.prompt, kind, "", self._step)
        self._open.clear()

    async def first_failure(self) -> str:
        """Nothing is drawn that could fail."""
        return ""

    async def fates(self) -> dict[str, int]:
        """Fates with filter or cause, over the whole run."""
        return self._fates.by_detail()

    async def stats(self) -> Metrics:
        """What was drawn since the last call, and passes over the set so far."""
        return {"data/epoch": self._passes, **self._counts.take()}

    async def snapshot(self) -> State:
        """Everything that decides what comes next; what is leased counts as not drawn yet."""
        return self._before or self._state()

    def _state(self) -> State:
        return {
            "source": self._cursor,
            "cut": (self._now.row, self._now.epoch, self._next) if self._now else (0, 0, -1),
            "open": copy.deepcopy(self._open),
            "fates": self._fates.state(),
            "counts": copy.deepcopy(self._counts),
            "step": self._step,
        }

    async def restore(self, state: State) -> None:
        """Go on after a snapshot.

        Raises:
            CheckpointError: It is of other groups, or of a run that trained on none.
        """
        self._order.restore(state["source"])
        self._cursor, self._passes = self._order.state(), self._order.passes
        self._ahead.clear()
        row, epoch, self._next = state["cut"]
        self._now = self._cut_of(row, epoch, self._cursor, self._passes)
        self._open = copy.deepcopy(state["open"])
        self._fates.restore(state["fates"])
        self._counts = copy.deepcopy(state["counts"])
        self._step = state["step"]

    async def take_over(self, state: State) -> bool:
        """A set is gone through from its beginning, whatever a stage before has trained on."""
        return False


class Digest:
    """Tells sets apart: by their groups, the order of these, tokens and rewards."""

    def __init__(self) -> None:
        self._made = hashlib.sha256()

    def add(self, scored: ScoredGroup) -> None:
        """Take in the next group."""
        prompt = scored.group.prompt
        self._made.update(prompt.id.encode() + b"\0" + prompt.token_ids.tobytes())
        self._made.update(scored.rewards.tobytes())
        for rollout in scored.group.rollouts:
            self._made.update(rollout.token_ids.tobytes() + b"\0")

    def __str__(self) -> str:
        """SHA-256, in hexadecimal."""
        return self._made.hexdigest()


def _digest_of(groups: Iterable[CreditedGroup]) -> str:
    digest = Digest()
    for group in groups:
        digest.add(group.scored)
    return str(digest)


def nothing_left(num_groups: int, filters: Iterable[str]) -> str:
    """Say that there is nothing to train on.

    Args:
        num_groups: Of the set.
        filters: Of the objective, that dropped them.
    """
    return (
        f"replay.path: of {num_groups} stored groups the objective drops all "
        f"({', '.join(sorted(filters))}), so there is nothing to train on; name another set, or "
        "have the objective keep them"
    )

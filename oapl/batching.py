"""Credited groups to packed micro-batches, one `Batch` per rank.

Invariants: every rollout of the groups is in exactly one micro-batch that is no dummy; the tokens
are those that were sampled, and the response mask covers exactly them; sequences in a row do not
attend to one another; all ranks get the same number of micro-batches and the same denominators.

Rows: sequences are packed into rows of at most `row_tokens`, longest first, each into the fullest
row that still has room; a longer sequence has a row of its own, which need not be masked. Rows of
like length form a micro-batch of at most `micro_batch_tokens`, padding included. With
`row_tokens = 1` every sequence has its own row: length-sorted padding, the fastest on CPUs, where
masked attention is quadratic in the row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from oapl.errors import InputError
from oapl.records import (
    Batch,
    Credit,
    CreditedGroup,
    Group,
    MicroBatch,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    TokenScores,
)

PADDING = -1
"""Rollout index of padding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packable:
    """One prompt and its response, with what the objective needs of it.

    Attributes:
        prompt_ids, response_ids: int32 [T], each of its own length.
        inference_logprobs: float32 [T] of the response, nats; None where nobody sampled it.
        credit, reward: Of the rollout.
        lag: Learner steps between its version and the batch.
        group_index: Which group of the batch it belongs to.
        place: Which of that group's rollouts it is.
        is_truncated: Cut off, without EOS.
        is_history: Of a group that an earlier iteration trained on.
    """

    prompt_ids: np.ndarray
    response_ids: np.ndarray
    inference_logprobs: np.ndarray | None = None
    credit: float = 0.0
    reward: float = 0.0
    lag: int = 0
    group_index: int = 0
    place: int = 0
    is_truncated: bool = False
    is_history: bool = False

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


Row = list[Packable]


def make_batch(
    groups: Sequence[CreditedGroup], *, step: int, micro_batch_tokens: int, row_tokens: int = 0
) -> Batch:
    """Make one rank's batch of the groups.

    Args:
        groups, step, micro_batch_tokens, row_tokens: As in `shard`.

    Raises:
        InputError: As in `shard`.
    """
    (batch,) = shard(
        groups,
        step=step,
        num_ranks=1,
        micro_batch_tokens=micro_batch_tokens,
        row_tokens=row_tokens,
    )
    return batch


def divide(groups: Sequence[CreditedGroup], size: int) -> list[tuple[CreditedGroup, ...]]:
    """Divide a take into its mini-batches, each with the take's share of history.

    As evenly as whole groups allow: the first m mini-batches have m parts of the history, rounded
    down. Else the groups stay in order; a mini-batch's history comes after its fresh groups.

    Args:
        groups: Of a take.
        size: Groups of a mini-batch; the last one has what is left.
    """
    fresh = [group for group in groups if not group.is_history]
    history = [group for group in groups if group.is_history]
    parts, lent = [], 0
    for start in range(0, len(groups), size):
        end = min(start + size, len(groups))
        until = end * len(history) // len(groups)
        parts.append((*fresh[start - lent : end - until], *history[lent:until]))
        lent = until
    return parts


def shard(
    groups: Sequence[CreditedGroup],
    *,
    step: int,
    num_ranks: int,
    micro_batch_tokens: int,
    row_tokens: int = 0,
    mini_batch: int = 0,
    temperature: float | None = None,
    kept_groups: tuple[int, ...] = (),
) -> list[Batch]:
    """Deal the rollouts of the groups to the ranks, each rank about the same number of tokens.

    Args:
        groups: Kept groups, all sampled at one temperature. Examples for imitation too (`example`).
        step: Learner steps made before this batch.
        num_ranks: Ranks; one that comes away empty gets dummies.
        micro_batch_tokens: Most tokens in a micro-batch, padding included; a longer rollout makes
            a micro-batch of its own.
        row_tokens: Most tokens in a row of several sequences; 0: `micro_batch_tokens`.
        mini_batch: Which one of the iteration they are.
        temperature: What divides the logits; default: what all groups were sampled at.
        kept_groups: Those whose log-probs are kept, by their place among `groups`.

    Returns:
        One batch per rank. The same groups give the same rows, whatever the step.

    Raises:
        InputError: No groups, several temperatures, or an empty prompt or response.
    """
    sequences = [s for index, group in enumerate(groups) for s in _sequences(group, index, step)]
    if not sequences:
        raise InputError("a batch of 0 rollouts has no gradient; give at least one group")
    shares = [
        pack(share, micro_batch_tokens=micro_batch_tokens, row_tokens=row_tokens)
        for share in _deal(sequences, num_ranks)
    ]
    count = max(len(share) for share in shares)
    dummy = min((m for share in shares for m in share), key=lambda m: m.token_ids.size)
    dummy = replace(dummy, is_dummy=True)
    credits_ = [s.credit for s in sequences]
    return [
        Batch(
            micro_batches=(*share, *[dummy] * (count - len(share))),
            step=step,
            temperature=_temperature(groups) if temperature is None else temperature,
            global_rollouts=len(sequences),
            global_tokens=sum(len(s.response_ids) for s in sequences),
            global_credit_std=float(np.std(credits_, ddof=1)) if len(credits_) > 1 else 0.0,
            mini_batch=mini_batch,
            kept_groups=kept_groups,
        )
        for share in shares
    ]


def example(prompt: Prompt, rollout: Rollout) -> CreditedGroup:
    """Make a group of a response to imitate: one rollout with credit 1 that nobody sampled.

    Args:
        prompt: What it answers.
        rollout: Of version 0, without log-probs.
    """
    sampling = Sampling(max_tokens=len(rollout.token_ids))
    group = Group(prompt=prompt, rollouts=(rollout,), version=0, sampling=sampling)
    scored = ScoredGroup(group=group, rewards=np.zeros(1, np.float32), verdicts=({},))
    return CreditedGroup(scored=scored, credit=Credit(values=np.ones(1, np.float32)))


def pack(
    sequences: Sequence[Packable], *, micro_batch_tokens: int, row_tokens: int = 0
) -> list[MicroBatch]:
    """Put sequences into rows, and rows of like length into micro-batches.

    Args:
        sequences: In any order.
        micro_batch_tokens, row_tokens: As in `shard`.

    Returns:
        The longest rows first; see the head of this file.
    """
    rows = _rows(sequences, min(row_tokens or micro_batch_tokens, micro_batch_tokens))
    rows.sort(key=_length, reverse=True)
    micro_batches: list[MicroBatch] = []
    while rows:
        num_rows = max(1, micro_batch_tokens // _length(rows[0]))  # all padded to the longest
        micro_batches.append(_micro_batch(rows[:num_rows]))
        rows = rows[num_rows:]
    return micro_batches


def by_rollout(
    micro_batch: MicroBatch, logprobs: np.ndarray, groups: Collection[int]
) -> Iterator[TokenScores]:
    """Divide the log-probs of a micro-batch among its rollouts.

    Args:
        micro_batch: With N response tokens.
        logprobs: float32 [N], row by row.
        groups: Those that are asked for, by their place in the batch.
    """
    owners = micro_batch.rollout_index[micro_batch.response_mask]  # [N]
    for index, (group, place) in enumerate(
        zip(micro_batch.group_index, micro_batch.place, strict=True)
    ):
        if group in groups:
            yield TokenScores(
                group_index=int(group), place=int(place), logprobs=logprobs[owners == index]
            )


def _sequences(credited: CreditedGroup, group_index: int, step: int) -> Iterable[Packable]:
    scored, group = credited.scored, credited.scored.group
    rollouts = zip(group.rollouts, credited.credit.values, scored.rewards, strict=True)
    for place, (rollout, credit, reward) in enumerate(rollouts):
        if not len(group.prompt.token_ids) or not len(rollout.token_ids):
            raise InputError(
                f"{credited.id}: prompt of {len(group.prompt.token_ids)} tokens, response of "
                f"{len(rollout.token_ids)}; both must have at least one"
            )
        yield Packable(
            prompt_ids=group.prompt.token_ids,
            response_ids=rollout.token_ids,
            inference_logprobs=rollout.inference_logprobs,
            credit=float(credit),
            reward=float(reward),
            lag=step - group.version,
            group_index=group_index,
            place=place,
            is_truncated=rollout.is_truncated,
            is_history=credited.is_history,
        )


def _temperature(groups: Sequence[CreditedGroup]) -> float:
    found = {group.scored.group.sampling.temperature for group in groups}
    if len(found) != 1 or min(found) <= 0:
        raise InputError(
            f"the groups of a batch were sampled at temperatures {sorted(found)}; the learner "
            f"divides its logits by the temperature, so it must be one, and above 0"
        )
    return found.pop()


def _deal(sequences: Sequence[Packable], num_ranks: int) -> list[list[Packable]]:
    """Longest first, each to the rank with the fewest tokens so far."""
    shares: list[list[Packable]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for sequence in sorted(sequences, key=len, reverse=True):
        rank = loads.index(min(loads))
        shares[rank].append(sequence)
        loads[rank] += len(sequence)
    return shares


def _rows(sequences: Sequence[Packable], capacity: int) -> list[Row]:
    """Best fit, longest first; rows are looked up by the room they have left."""
    full: list[Row] = []
    by_room: dict[int, list[Row]] = {}
    for sequence in sorted(sequences, key=len, reverse=True):
        size = len(sequence)
        room = min((room for room in by_room if room >= size), default=0)
        row = _pop(by_room, room) if room else []
        row.append(sequence)
        left = (room or capacity) - size
        if left > 0:
            by_room.setdefault(left, []).append(row)
        else:
            full.append(row)
    return full + [row for rows in by_room.values() for row in rows]


def _pop(by_room: dict[int, list[Row]], room: int) -> Row:
    row = by_room[room].pop()
    if not by_room[room]:
        del by_room[room]
    return row


def _length(row: Row) -> int:
    return sum(len(sequence) for sequence in row)


def _micro_batch(rows: Sequence[Row]) -> MicroBatch:
    shape = len(rows), max(_length(row) for row in rows)  # [R, T]
    token_ids = np.zeros(shape, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    response_mask = np.zeros(shape, dtype=bool)
    rollout_index = np.full(shape, PADDING, dtype=np.int64)
    inference_logprobs = np.zeros(shape, dtype=np.float32)
    sequences = [sequence for row in rows for sequence in row]
    index = 0
    for r, row in enumerate(rows):
        end = 0
        for sequence in row:
            start, middle = end, end + len(sequence.prompt_ids)
            end = start + len(sequence)
            token_ids[r, start:middle] = sequence.prompt_ids
            token_ids[r, middle:end] = sequence.response_ids
            positions[r, start:end] = np.arange(end - start)
            response_mask[r, middle:end] = True
            rollout_index[r, start:end] = index
            recorded = sequence.inference_logprobs
            inference_logprobs[r, middle:end] = np.nan if recorded is None else recorded
            index += 1
        # Padding attends to whatever stands before it, and nothing attends to padding. Behind a
        # single sequence positions run on: a row that never restarts needs no mask (causal
        # attention, fast); behind several they restart.
        first = end if len(row) == 1 else 0
        positions[r, end:] = np.arange(first, first + shape[1] - end)
    return MicroBatch(
        token_ids=token_ids,
        positions=positions,
        response_mask=response_mask,
        rollout_index=rollout_index,
        inference_logprobs=inference_logprobs,
        credit=np.array([s.credit for s in sequences], dtype=np.float32),
        reward=np.array([s.reward for s in sequences], dtype=np.float32),
        lag=np.array([s.lag for s in sequences], dtype=np.int64),
        group_index=np.array([s.group_index for s in sequences], dtype=np.int64),
        place=np.array([s.place for s in sequences], dtype=np.int64),
        is_truncated=np.array([s.is_truncated for s in sequences], dtype=bool),
        is_history=np.array([s.is_history for s in sequences], dtype=bool),
    )

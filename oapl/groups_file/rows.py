"""How a stored group becomes rows, and rows a group again.

A row is a rollout; what belongs to its group stands in each of its rows. Column types are plain, so
that pandas alone reads them; what has a shape of its own (verdicts, reference) is JSON text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from oapl.groups_file.record import FORMAT, StoredGroup
from oapl.records import Prompt, Rollout, Sampling, Verdict

Row = dict[str, Any]


ADDED = {"learner_logprobs": 2}
"""Columns by the format in which they came; format 1 has all others."""


@functools.cache
def schema(number: int = FORMAT) -> Any:
    """The columns, a `pyarrow.Schema`.

    Args:
        number: Of the format.
    """
    import pyarrow as pa

    text, ids, numbers = pa.string(), pa.list_(pa.int32()), pa.list_(pa.float32())
    types = {
        "group": pa.int32(),  # its number within the shard
        "id": text,
        "source": text,
        "question": text,
        "prompt": text,
        "prompt_token_ids": ids,
        "verifiers": text,
        "reference": text,
        "version": pa.int64(),
        "temperature": pa.float64(),
        "top_p": pa.float64(),
        "top_k": pa.int32(),
        "max_tokens": pa.int32(),
        "all_rewards": numbers,
        "all_kinds": text,
        "step": pa.int64(),
        "place": pa.int32(),
        "response": text,
        "token_ids": ids,
        "inference_logprobs": numbers,
        "finish_reason": text,
        "reward": pa.float32(),
        "verdicts": text,
        "credit": pa.float32(),
        "learner_logprobs": numbers,
    }
    return pa.schema([one for one in types.items() if ADDED.get(one[0], 1) <= number])


def table_of(groups: Sequence[StoredGroup]) -> Any:
    """Write groups as one `pyarrow.Table`, numbered from 0."""
    import pyarrow as pa

    rows = [row for number, group in enumerate(groups) for row in _rows(number, group)]
    return pa.Table.from_pylist(rows, schema=schema())


def _rows(number: int, group: StoredGroup) -> Iterator[Row]:
    prompt = group.prompt
    shared = {
        "group": number,
        "id": prompt.id,
        "source": prompt.source,
        "question": prompt.question,
        "prompt": prompt.text,
        "prompt_token_ids": prompt.token_ids,
        "verifiers": _json(dict(prompt.verifiers)),
        "reference": _json(dict(prompt.reference)),
        "version": group.version,
        **asdict(group.sampling),
        "all_rewards": group.all_rewards,
        "all_kinds": _json([dict(kinds) for kinds in group.all_kinds]),
        "step": group.step,
    }
    learner = group.learner_logprobs
    for index, rollout in enumerate(group.rollouts):
        yield {
            **shared,
            "place": group.places[index],
            "response": rollout.text,
            "token_ids": rollout.token_ids,
            "inference_logprobs": rollout.inference_logprobs,
            "finish_reason": rollout.finish_reason,
            "reward": group.rewards[index],
            "verdicts": _json({name: _verdict(v) for name, v in group.verdicts[index].items()}),
            "credit": None if group.credit is None else group.credit[index],
            "learner_logprobs": None if learner is None else learner[index],
        }


def _verdict(verdict: Verdict) -> Row:
    return {
        "kind": verdict.kind,
        "reward": verdict.reward,
        "detail": verdict.detail,
        "seconds": verdict.seconds,
        "parts": dict(verdict.parts),
    }


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as lists and numbers; a date and the like as its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def groups_of(rows: Iterator[Row]) -> Iterator[StoredGroup]:
    """Put the rows of a shard together again.

    Args:
        rows: In their order, of `rows_of`.
    """
    held: list[Row] = []
    for row in rows:
        if held and row["group"] != held[0]["group"]:
            yield _group(held)
            held = []
        held.append(row)
    if held:
        yield _group(held)


def rows_of(batch: Any) -> Iterator[Row]:
    """Give the rows of a `pyarrow.RecordBatch`, lists of numbers as arrays of their own."""
    arrays = {"prompt_token_ids", "all_rewards", "token_ids", "inference_logprobs", *ADDED}
    arrays &= set(batch.schema.names)
    plain = {name: batch[name].to_pylist() for name in batch.schema.names if name not in arrays}
    for index in range(batch.num_rows):
        lists = {name: _array(batch[name][index].values) for name in arrays}
        yield {name: values[index] for name, values in plain.items()} | lists


def _array(values: Any) -> np.ndarray | None:
    return None if values is None else np.array(values.to_numpy(zero_copy_only=False))


def _group(rows: Sequence[Row]) -> StoredGroup:
    first = rows[0]
    has_credit = first["credit"] is not None
    has_learner = first.get("learner_logprobs") is not None
    return StoredGroup(
        prompt=Prompt(
            id=first["id"],
            text=first["prompt"],
            token_ids=first["prompt_token_ids"],
            verifiers=json.loads(first["verifiers"]),
            reference=json.loads(first["reference"]),
            source=first["source"],
            question=first["question"],
        ),
        version=first["version"],
        sampling=Sampling(
            temperature=first["temperature"],
            top_p=first["top_p"],
            top_k=first["top_k"],
            max_tokens=first["max_tokens"],
        ),
        rollouts=tuple(_rollout(row) for row in rows),
        places=tuple(row["place"] for row in rows),
        rewards=np.array([row["reward"] for row in rows], np.float32),
        verdicts=tuple(_verdicts(json.loads(row["verdicts"])) for row in rows),
        all_rewards=first["all_rewards"],
        all_kinds=tuple(json.loads(first["all_kinds"])),
        step=first["step"],
        credit=np.array([row["credit"] for row in rows], np.float32) if has_credit else None,
        learner_logprobs=tuple(row["learner_logprobs"] for row in rows) if has_learner else None,
    )


def _rollout(row: Row) -> Rollout:
    return Rollout(
        token_ids=row["token_ids"],
        inference_logprobs=row["inference_logprobs"],
        finish_reason=row["finish_reason"],
        text=row["response"],
        first_version=row["version"],
        last_version=row["version"],
    )


def _verdicts(stored: Mapping[str, Row]) -> dict[str, Verdict]:
    return {name: Verdict(**verdict) for name, verdict in stored.items()}

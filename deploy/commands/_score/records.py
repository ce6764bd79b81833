"""Records to judge: of each its id, and what a verifier is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from actors.data.messages import read_content
from actors.data.problems import Row, as_text
from actors.data.sources import read_rows
from oapl.config.sections import DataSource
from oapl.errors import InputError
from oapl.records import Prompt, Rollout

OWN = ("id", "response", "prompt", "question", "reference", "finish_reason")
"""Columns that are no part of the reference: with `answer` alone beside them, a user's function is
shown the answer itself, as in a run."""


def tasks_of(source: Path, name: str) -> Iterator[tuple[Any, tuple[Prompt, Rollout]]]:
    """Id and task of every record.

    Args:
        source: The file.
        name: Of the verifier.

    Raises:
        InputError: Names file, line and rule.
    """
    rows = read_rows(DataSource(name=source.name, path=str(source)))
    for index, (place, row) in enumerate(rows):
        yield row.get("id"), _task(index, place, row, name)


def _task(index: int, place: str, row: Row, name: str) -> tuple[Prompt, Rollout]:
    if not isinstance(row.get("id"), str | int):
        raise InputError(f"{place}: id is {row.get('id')!r}; it must be text or a number")
    response = row.get("response")
    if not isinstance(response, str):
        found = repr(response)[:60] if "response" in row else "missing"
        raise InputError(f"{place}: response is {found}; it must be text (it may be empty)")
    text = _text(row.get("prompt", ""), place)
    prompt = Prompt(
        id=f"{row['id']}#{index}",
        text=text,
        token_ids=np.empty(0, np.int32),
        verifiers={name: 1.0},
        reference=_reference(row, place),
        source=str(row.get("source", "")),
        question=str(row.get("question") or text),
    )
    rollout = Rollout(
        token_ids=np.zeros(_num_tokens(row, place), np.int32),
        inference_logprobs=None,
        finish_reason="length" if row.get("finish_reason") == "length" else "stop",
        text=response,
        first_version=0,
        last_version=0,
    )
    return prompt, rollout


def _text(prompt: Any, place: str) -> str:
    """A prompt's text; of a chat the user's last words."""
    if isinstance(prompt, str):
        return prompt
    last = prompt[-1] if isinstance(prompt, list | tuple) and prompt else None
    if isinstance(last, Mapping) and last.get("content") is not None:
        return read_content(last["content"], f"{place}: prompt")
    raise InputError(
        f"{place}: prompt is {prompt!r:.60}; it must be text, or a list of chat messages"
    )


def _num_tokens(row: Row, place: str) -> int:
    count = row["num_tokens"] if "num_tokens" in row else len(row.get("token_ids") or ())
    if not isinstance(count, int) or count < 0:
        raise InputError(f"{place}: num_tokens is {count!r}; it must be a number of tokens")
    return count


def _reference(row: Row, place: str) -> dict[str, Any]:
    """What the verifier may need, as data loading gives it: the column `reference` where it is a
    table, for that is what a run has stored; else every other column."""
    reference = {key: value for key, value in row.items() if key not in OWN}
    stored = row.get("reference")
    if isinstance(stored, str):  # the rollouts that a run has stored
        try:
            stored = json.loads(stored)
        except ValueError as error:
            raise InputError(f"{place}: reference is not JSON ({error})") from error
    if isinstance(stored, Mapping):
        reference |= stored
    if "answer" in reference:
        reference["answer"] = as_text(reference["answer"])
    return reference

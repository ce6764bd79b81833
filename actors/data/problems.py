"""A row becomes a problem: its prompt, its answer, its response, and what verifiers may need.

Whatever is wrong is said with its place (file and line, or row) before anything is started. A key
may lead into a column: `reward_model.ground_truth` is a field of `reward_model`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from typing import Any

from actors.data import messages
from actors.data.messages import SHOWN, Messages
from oapl.config.sections import DataSource
from oapl.errors import InputError

Row = Mapping[str, Any]
TOOLS = "tools"
"""Column with the tools that a chat template is to describe to the model."""
MISSING = object()
"""What `find` gives where there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row of a source.

    Attributes:
        source, index: Name of the source and number of the row in it, from 0.
        place: File and line, or the like, for error messages.
        prompt: Text, or chat messages that end with the user's.
        reference: What verifiers need: `answer`, every other column; for a generated puzzle its
            `entry` and `task`, and the `options` it was made with.
        tools: JSON schemas of the tools that the model may call.
        response: The response to imitate (SFT), None when it was not asked for.
    """

    source: str
    index: int
    place: str
    prompt: str | Messages
    reference: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...] = ()
    response: str | None = None

    @property
    def question(self) -> str:
        """The user's own words."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1]["content"])

    def with_question(self, question: str) -> Problem:
        """The same problem in other words."""
        if isinstance(self.prompt, str):
            return replace(self, prompt=question)
        last = {**self.prompt[-1], "content": question}
        return replace(self, prompt=(*self.prompt[:-1], last))


def read_row(
    source: DataSource, index: int, place: str, row: Row, *, with_response: bool
) -> Problem:
    """Read the problem of a row.

    Args:
        source: Names the columns.
        index: Of the row, from 0.
        place: Of the row, for errors.
        row: Its columns.
        with_response: Demand a response to imitate; an answer is optional then.

    Raises:
        InputError: A column is missing, or holds what it cannot; `place` is named.
    """
    _demand_text(row, place)
    prompt = _prompt(_column(source, row, "prompt_key", place), place)
    reference = {key: value for key, value in row.items() if key != source.prompt_key}
    for name, key in source.columns.items():
        reference[name] = _at(source, row, key, f"columns.{name}", place)
    if source.answer_key and not with_response:
        answer = _column(source, row, "answer_key", place)
        reference["answer"] = _answer(answer, source.answer_key, place)
    elif source.answer_key and (answer := find(row, source.answer_key)) is not MISSING:
        reference["answer"] = as_text(answer)
    response = None
    if with_response:
        response = _column(source, row, "response_key", place)
        if not isinstance(response, str) or not response.strip():
            raise InputError(
                f"{place}: {source.response_key} is {repr(response)[:SHOWN]}; a response to "
                "imitate must be text and not blank"
            )
    keys = (source.prompt_key, source.answer_key, source.response_key)
    return Problem(
        source=source.name,
        index=index,
        place=place,
        prompt=prompt,
        reference=reference,
        tools=() if TOOLS in keys else messages.read_tools(row.get(TOOLS), f"{place}: tools"),
        response=response,
    )


def is_wanted(source: DataSource, row: Row, place: str) -> bool:
    """Whether a row is one that `where` of the source asks for.

    Args:
        source: Names columns and the text they must hold.
        row: Its columns.
        place: Of the row, for errors.

    Raises:
        InputError: It lacks such a column.
    """
    return all(
        as_text(_at(source, row, key, "a key of where", place)) == text
        for key, text in source.where.items()
    )


def as_text(value: Any) -> Any:
    """Numbers, times and booleans become text, which is what verifiers compare."""
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    return str(value) if isinstance(value, int | float | Decimal | date | time) else value


def _demand_text(row: Row, place: str) -> None:
    """Refuse halves of characters, which JSON can spell and nobody can write."""
    for name, value in row.items():
        if not _is_text(name) or not _is_text(value):
            raise InputError(
                f"{place}: column {ascii(name)[:SHOWN]} has half of a character (a lone surrogate "
                "like \\ud83d), which is no text; write the character whole, or leave the row out"
            )


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or value.encode(errors="replace").decode() == value
    if isinstance(value, Mapping):
        return all(_is_text(key) and _is_text(inner) for key, inner in value.items())
    return all(map(_is_text, value)) if isinstance(value, list | tuple) else True


def _column(source: DataSource, row: Row, setting: str, place: str) -> Any:
    return _at(source, row, getattr(source, setting), setting, place)


def _at(source: DataSource, row: Row, key: str, setting: str, place: str) -> Any:
    """What a key leads to, which `setting` names."""
    value = find(row, key)
    if value is not MISSING:
        return value
    extra = ', or to "" if there is none' if setting == "answer_key" else ""
    head = next((name for name in row if key.startswith(f"{name}.")), None)
    inside = row.get(head) if head is not None else None
    there = (
        f"{head!r} has {', '.join(map(str, inside)) or 'none'}"
        if isinstance(inside, Mapping)
        else f"there are {', '.join(map(str, row)) or 'none'}"
    )
    raise InputError(
        f"{place}: source {source.name!r} has no column {key!r}; {there}; set {setting} to one of "
        f"them{extra}"
    )


def find(value: Any, key: str) -> Any:
    """What a key leads to: a column, else a field of a column, else an element of a list; a column
    that is JSON text is read.

    Args:
        value: A row, or what stands in one.
        key: With dots that lead into it; `MISSING` is given where it leads nowhere.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        heads = [name for name in value if isinstance(name, str) and key.startswith(f"{name}.")]
        for head in sorted(heads, key=len, reverse=True):
            found = find(value[head], key[len(head) + 1 :])
            if found is not MISSING:
                return found
    if isinstance(value, list | tuple):
        head, _, rest = key.partition(".")
        if head.isdecimal() and int(head) < len(value):
            return find(value[int(head)], rest) if rest else value[int(head)]
    return MISSING


def _prompt(value: Any, place: str) -> str | Messages:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        found = messages.read(value, place)
        if found[-1]["role"] != "user":
            raise InputError(
                f"{place}: a chat prompt ends with role {found[-1]['role']!r}; the last message "
                "must be the user's, since the model answers it"
            )
        return found
    inside = f"; prompt_key may lead into it, to {_fields(value)}" if _fields(value) else ""
    raise InputError(
        f"{place}: the prompt is {repr(value)[:SHOWN]}; it must be text that is not blank, or a "
        f"list of chat messages{inside}"
    )


def _fields(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, Mapping) else ""


def _answer(value: Any, key: str, place: str) -> Any:
    """The answer; whether a verifier can compare such a one is the verifier's to say."""
    if _is_nothing(value):
        shown = "null" if value is None else repr(value)[:SHOWN]
        raise InputError(
            f"{place}: the answer is {shown}; a verifier could accept nothing; give one, leave the "
            f'row out, or set answer_key = "" if no verifier needs {key}'
        )
    if isinstance(value, float) and math.isinf(value):
        raise InputError(
            f"{place}: the answer is {value}, a number too large to be one; write it in quotes, as "
            "a response would give it"
        )
    return as_text(value)


def _is_nothing(value: Any) -> bool:
    """Null, NaN, blank text, and what holds nothing but these."""
    if isinstance(value, Mapping):
        return all(map(_is_nothing, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_nothing, value))
    if isinstance(value, str | bytes):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))

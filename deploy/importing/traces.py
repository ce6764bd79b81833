"""A line of a log becomes a trace: what was asked, what was answered, and its reward.

A response beside its prompt is text just as it was sampled; an assistant's message, the last of
`messages` or alone in `completion`, is what the chat template is yet to write.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.data import messages
from actors.data.messages import SHOWN
from actors.data.problems import Problem, Row, as_text, read_row
from actors.data.sources import read_rows
from deploy.importing.columns import Columns, Refused
from oapl.config.sections import DataSource
from oapl.errors import InputError

ENDS = {"stop": True, "eos": True, "length": False}
"""Finish reasons, and whether the trace ended by itself."""
PROMPT = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One logged response.

    Attributes:
        problem: Its prompt, with what is known of the prompt in `reference`.
        response: Text as it was sampled, or the assistant's message.
        reward: As logged.
        ended: By itself; else it was cut off.
        temperature: That it was sampled at, where that is logged.
        name: Of its group, unique in its source.
        key: Of its group: equal for the traces of a prompt.
    """

    problem: Problem
    response: str | Mapping[str, Any]
    reward: float
    ended: bool
    temperature: float | None
    name: str
    key: bytes


class Reader:
    """Reads the traces of a file, as often as it is asked to.

    Args:
        path: JSONL, gzipped or not, or Parquet.
        columns: Which mean what.
        at_one: Refuse a trace that was sampled at another temperature than 1.
    """

    def __init__(self, path: Path, columns: Columns, *, at_one: bool = False) -> None:
        self._at_one = at_one
        name = path.name.partition(".")[0] or path.name
        self._source = DataSource(name=name, path=str(path), prompt_key=PROMPT, answer_key="")
        self._columns = columns
        self._by: str | None = None  # the column by which the first trace is grouped; "" is none

    def __iter__(self) -> Iterator[Trace | Refused]:
        """Every line, as a trace or with what is wrong with it.

        Raises:
            InputError: The file cannot be read, or a line is no JSON object.
        """
        for index, (place, row) in enumerate(read_rows(self._source)):
            try:
                yield self._read(index, place, row)
            except Refused as refused:
                yield refused

    def _read(self, index: int, place: str, row: Row) -> Trace:
        def value(meaning: str) -> Any:
            return self._columns.value(row, meaning, place)

        prompt, response = self._asked_and_answered(value, place)
        reference = self._reference(row, value, place)
        source = value("source")
        try:
            problem = read_row(
                self._source, index, place, {**row, PROMPT: prompt}, with_response=False
            )
        except InputError as error:
            raise Refused("messages", str(error)) from error
        problem = dataclasses.replace(
            problem,
            reference=reference,
            source=self._source.name if source is None else str(source),
        )
        reward = _number(value("reward"), "reward", self._columns.names("reward"), place)
        temperature = self._temperature(value("temperature"), place)
        ended = _ended(value("finish_reason"), place)
        name, key = self._group(problem, value, place)
        return Trace(
            problem=problem,
            response=response,
            reward=reward,
            ended=ended,
            temperature=temperature,
            name=name,
            key=key,
        )

    def _temperature(self, value: Any, place: str) -> float | None:
        if value is None:
            return None
        found = _number(value, "temperature", self._columns.names("temperature"), place)
        if found < 0:
            raise Refused(
                "temperature",
                f"{place}: the temperature is {found:g}, and none is below 0; leave the line out",
            )
        if self._at_one and found != 1:
            raise Refused(
                "temperature",
                f"{place}: was sampled at temperature {found:g}, and an engine scores given tokens "
                "at temperature 1, where the set would then be trained; import without --score for "
                "an objective that reads no log-probs or, with --sampled-by-model, for one that "
                'has the learner score them (objective.anchor = "sampler"); or pass over the '
                "column by --column temperature=",
            )
        return found

    def _asked_and_answered(self, value: Any, place: str) -> tuple[Any, str | Mapping[str, Any]]:
        chat, prompt, response = value("messages"), value("prompt"), value("response")
        if chat is None:
            return _named(prompt, "prompt", place), _response(response, place)
        if prompt is not None or response is not None:
            raise Refused(
                "columns",
                f"{place}: has messages, and a prompt or a response beside them; say which is "
                "meant, by --column messages= or by --column prompt= --column response=",
            )
        if not isinstance(chat, list | tuple) or len(chat) < 2:
            raise Refused(
                "messages",
                f"{place}: messages is {repr(chat)[:SHOWN]}; it must be a list of chat messages, "
                "of which the last is the assistant's; name the column by --column messages=KEY",
            )
        return chat[:-1], _answer(chat, place)

    def _reference(self, row: Row, value: Any, place: str) -> dict[str, Any]:
        """What is known of the prompt: the columns without a meaning of their own, the fields of
        `reference`, `answer` and `v_star`."""
        found = {name: row[name] for name in self._columns.others(row)}
        answer, reference = value("answer"), value("reference")
        if isinstance(reference, Mapping):
            found |= reference
        elif reference is not None and answer is not None:
            raise Refused(
                "columns",
                f"{place}: has an answer and a reference that is no table; leave one out, by "
                "--column answer= or --column reference=",
            )
        else:
            answer = reference if answer is None else answer
        if answer is not None:
            found["answer"] = as_text(answer)
        if (v_star := value("v_star")) is not None:
            found["v_star"] = _number(v_star, "v_star", self._columns.names("v_star"), place)
        return found

    def _group(self, problem: Problem, value: Any, place: str) -> tuple[str, bytes]:
        """Name and key of a trace's group; the first trace says by what all are grouped."""
        given = {by: value(by) for by in ("group", "id")}
        by = next((by for by, name in given.items() if name is not None), "")
        name = given.get(by)
        self._by = by if self._by is None else self._by
        if by != self._by or (by and not _is_name(name)):
            others = f"by the column {self._by}" if self._by else "by equal prompts"
            raise Refused(
                "group",
                f"{place}: the {by or self._by} is {repr(name)[:SHOWN]}, and the first trace of "
                f"the file is grouped {others}; give every line text or a number there, or pass "
                f"over the column by --column {by or self._by}=",
            )
        what = [problem.source, str(name) if by else [problem.prompt, problem.tools]]
        text = json.dumps(what, sort_keys=True, default=str)
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return str(problem.index if name is None else name), key


def _is_name(value: Any) -> bool:
    is_text = isinstance(value, str) and bool(value.strip())
    return is_text or (isinstance(value, int) and not isinstance(value, bool))


def _named(value: Any, meaning: str, place: str) -> Any:
    if value is None:
        raise Refused(
            "columns",
            f"{place}: has no {meaning}; a trace has messages, or a prompt and a response; name "
            f"the column by --column {meaning}=KEY",
        )
    return value


def _response(value: Any, place: str) -> str | Mapping[str, Any]:
    value = _named(value, "response", place)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list | tuple) and len(value) == 1:
        return _answer(value, f"{place}, response")
    raise Refused(
        "messages",
        f"{place}: the response is {repr(value)[:SHOWN]}; it must be text that is not blank, or a "
        "list of one assistant's message; leave the line out",
    )


def _answer(chat: Sequence[Any], place: str) -> Mapping[str, Any]:
    """The last message, which is the assistant's."""
    try:
        found = messages.read(chat, place)[-1]
    except InputError as error:
        raise Refused("messages", str(error)) from error
    if found["role"] != "assistant" or found.get("tool_calls"):
        what = "tool_calls" if found["role"] == "assistant" else f"role {found['role']!r}"
        raise Refused(
            "messages",
            f"{place}, message {len(chat)}: has {what}, but a trace ends with what the assistant "
            "said, in text; cut what stands after its last turn in text, or leave the line out",
        )
    return found


def _ended(value: Any, place: str) -> bool:
    if value is None:
        return True
    if not isinstance(value, str) or value not in ENDS:
        raise Refused(
            "finish_reason",
            f"{place}: finish_reason is {repr(value)[:SHOWN]}; a trace that is trained on ended "
            f"by itself or was cut off ({', '.join(ENDS)}); leave the line out",
        )
    return ENDS[value]


def _number(value: Any, meaning: str, names: tuple[str, ...], place: str) -> float:
    """A number that float32 holds; true is 1, false 0."""
    try:
        with np.errstate(over="ignore"):
            is_finite = isinstance(value, int | float) and math.isfinite(np.float32(value))
    except OverflowError:
        is_finite = False
    if not is_finite:
        found = "missing" if value is None else f"{repr(value)[:SHOWN]}"
        raise Refused(
            meaning,
            f"{place}: the {meaning} ({' or '.join(names)}) is {found}; it must be a number that "
            f"is finite; name its column by --column {meaning}=KEY, or leave the line out",
        )
    return float(value)

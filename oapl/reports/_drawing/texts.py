"""What stands on the page as text: tables, and questions with their answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["", "best", "second"]
DASH = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: As it is read.
        key: By what it is sorted; None: by its text.
        mark: The best of its column, or the one after it.
    """

    text: str
    key: float | None = None
    mark: Mark = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose columns can be sorted.

    Attributes:
        columns: Headings.
        rows: A cell per column.
        is_list: It is names and values, read one by one and not compared.
        note: What a reader must know of it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_list: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token of an answer.

    Attributes:
        text: What it adds to the text before it.
        nats: By which the learner thinks it likelier than the sampler did, or its log-prob.
    """

    text: str
    nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to a question.

    Attributes:
        title: What is looked at in it.
        facts: Step, reward, tokens and the like, as they are read.
        text: Of the answer.
        tokens: The same text cut into tokens; none where these are not known.
        is_right: Colours it; None where nobody says so.
        verdicts: What each verifier said.
    """

    title: str
    facts: tuple[str, ...]
    text: str
    tokens: tuple[Token, ...] = ()
    is_right: bool | None = None
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and what was answered.

    Attributes:
        text: The user's own words.
        reference: The right answer, where it is known.
        answers: In the order in which they are read.
    """

    text: str
    reference: str
    answers: tuple[Answer, ...]


def number(value: float | None, form: str = ".3f", mark: Mark = "") -> Cell:
    """Make a cell of a number; a dash of one that is not known.

    Args:
        value: None or NaN where it is not known.
        form: As of `format`.
        mark: See `Cell`.
    """
    if value is None or not math.isfinite(value):
        return Cell(text=DASH, key=-math.inf)
    return Cell(text=format(value, form), key=float(value), mark=mark)


def words(text: object) -> Cell:
    """Make a cell of text."""
    return Cell(text=str(text))


def length(tokens: int) -> str:
    """A response's length, as facts of an answer tell it."""
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"


def marked(values: Sequence[float | None]) -> list[Mark]:
    """Mark the best of a column and the one after it; nothing where fewer than two are known."""
    known = sorted({v for v in values if v is not None and math.isfinite(v)}, reverse=True)
    if len(known) < 2:
        return [""] * len(values)
    return ["best" if v == known[0] else "second" if v == known[1] else "" for v in values]

"""Which column of a trace means what: by its usual names, or as a user says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.data.problems import MISSING, Row, find
from oapl.errors import InputError

USUAL: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt": ("prompt",),
    "response": ("response", "completion"),
    "reward": ("reward", "score"),
    "answer": ("answer",),
    "reference": ("reference",),
    "group": ("group",),
    "id": ("id",),
    "source": ("source",),
    "v_star": ("v_star",),
    "temperature": ("temperature",),
    "finish_reason": ("finish_reason",),
}
"""Meaning to the names of columns that are taken to have it."""


class Refused(InputError):
    """A trace that cannot be stored.

    Args:
        reason: By which such traces are counted.
        message: With the trace's place.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a file.

    Attributes:
        given: Meaning to key, as the user says; an empty key is no column.
    """

    given: Mapping[str, str] = field(default_factory=dict)

    def names(self, meaning: str) -> tuple[str, ...]:
        """Keys that may lead to what is meant."""
        if meaning in self.given:
            return (self.given[meaning],) if self.given[meaning] else ()
        return USUAL[meaning]

    def value(self, row: Row, meaning: str, place: str) -> Any:
        """Find what is meant; None where a row has no such column, or null in it.

        Args:
            row: The trace.
            meaning: A key of `USUAL`.
            place: Of the row, for errors.

        Raises:
            Refused: Two columns may be meant.
        """
        found = {
            name: value for name in self.names(meaning) if (value := _at(row, name)) is not None
        }
        if len(found) > 1:
            raise Refused(
                "columns",
                f"{place}: has {' and '.join(found)}, and either may be the {meaning}; say which "
                f"by --column {meaning}=KEY",
            )
        return next(iter(found.values()), None)

    def others(self, row: Row) -> Iterator[str]:
        """The columns of a row that mean nothing here."""
        used = {name for meaning in USUAL for name in self.names(meaning)}
        return (name for name in row if name not in used)


def _at(row: Row, key: str) -> Any:
    value = find(row, key)
    return None if value is MISSING else value


def from_words(words: Sequence[str]) -> Columns:
    """Read `MEANING=KEY`.

    Raises:
        InputError: A word is none, or its meaning is not known.
    """
    given = {}
    for word in words:
        meaning, equals, key = word.partition("=")
        if not equals or meaning not in USUAL:
            raise InputError(
                f"--column {word}: must be MEANING=KEY with one of {', '.join(USUAL)}; an empty "
                "KEY says that there is no such column"
            )
        given[meaning] = key
    return Columns(given=given)

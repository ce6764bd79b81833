"""Words to the cells of a grid: `key=a,b` are two values, `key=a` holds for every cell.

Commas within brackets and quotes separate nothing: `optimizer.betas=[0.9,0.95],[0.9,0.999]` are
two values, `data.system_prompt="Yes, or no"` is one. A *case* is a name for several settings that
go together; all cases are one more dimension of the grid.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from oapl.errors import InputError

CASE = "case"
"""What the dimension of the cases is called, where settings are."""
PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""What may stand in the name of a run."""
LONGEST_NAME, LONGEST_VALUE = 120, 24
DIGEST = 6
OPENING, CLOSING, QUOTES = "[{", "]}", "\"'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the grid.

    Attributes:
        name: Of its run, the same whatever other cells there are.
        settings: What it differs in from others, key to value as written.
        overrides: The same as overrides of the recipe.
    """

    name: str
    settings: Mapping[str, str]
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.settings.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One place on a dimension."""

    key: str
    value: str
    overrides: tuple[str, ...]


def grid(
    words: Sequence[str], cases: Sequence[Sequence[str]] = ()
) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
    """Make the cells.

    Args:
        words: `key=a,b` or `key=a`.
        cases: Each a name and its overrides.

    Returns:
        The overrides of every cell, and the cells; the last key varies fastest.

    Raises:
        InputError: Nothing varies, a setting is given twice, or a value is written wrong.
    """
    common: list[str] = []
    dimensions: list[list[_Choice]] = []
    for word in words:
        key, _, text = word.partition("=")
        found = values_of(word, text)
        if len(found) == 1:
            common.append(word)
        else:
            dimensions.append([_choice(key.strip(), value) for value in found])
    if cases:
        dimensions.append([_case(words) for words in cases])
    if not dimensions:
        raise InputError(
            "nothing varies; give several values to a setting, as in optimizer.lr=1e-6,3e-6, or "
            "run the recipe by `oapl train`"
        )
    varied = [dimension[0].key for dimension in dimensions]
    _check_once([*common, *(f"{key}=" for key in varied if key != CASE)])
    shown = _shown_keys(varied)
    cells = tuple(_cell(choices, shown) for choices in itertools.product(*dimensions))
    _check_apart(cells)
    return tuple(common), cells


def values_of(word: str, text: str) -> list[str]:
    """Split at the commas that lie in no bracket and no quotes.

    Args:
        word: The whole word, for the error.
        text: What is behind its `=`.

    Raises:
        InputError: A bracket or quote is left open, or one of several values is empty.
    """
    parts = [part.strip() for part in _parts(word, text)]
    if len(parts) > 1 and not all(parts):
        raise InputError(
            f'{word}: one of the values between commas is empty; leave the comma out, or write ""'
        )
    return parts


def _parts(word: str, text: str) -> Iterator[str]:
    begin, depth, quote = 0, 0, ""
    escaped = False
    for place, letter in enumerate(text):
        if quote:
            is_end = letter == quote and not escaped
            escaped = quote == '"' and letter == "\\" and not escaped
            quote = "" if is_end else quote
        elif letter in QUOTES and (depth or not text[begin:place].strip()):
            quote = letter  # an apostrophe within bare text opens nothing
        elif letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
    if begin or "," in text:
        _check_closed(word, depth, quote)
    yield text[begin:]


def _check_closed(word: str, depth: int, quote: str) -> None:
    if depth or quote:
        what = f"the quote {quote}" if quote else "a bracket"
        raise InputError(
            f"{word}: {what} is not closed, so the commas cannot be told apart; close it, or put "
            "quotes around the value"
        )


def _choice(key: str, value: str) -> _Choice:
    return _Choice(key=key, value=value, overrides=(f"{key}={value}",))


def _case(words: Sequence[str]) -> _Choice:
    name, *overrides = words
    if not PLAIN.fullmatch(name) or not name[0].isalnum():
        raise InputError(
            f"--case {name}: its name must be letters, digits, '_', '.' and '-', beginning with "
            "a letter or digit; write --case NAME KEY=VALUE ..."
        )
    return _Choice(key=CASE, value=name, overrides=tuple(overrides))


def _check_once(words: Sequence[str]) -> None:
    keys = [word.partition("=")[0].strip() for word in words]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{key} is given {keys.count(key)} times; give all its values at once")


def _check_apart(cells: Sequence[Cell]) -> None:
    names = [cell.name for cell in cells]
    for cell in cells:
        if names.count(cell.name) > 1:
            raise InputError(f"the cell {cell} is there twice; leave out one of its values")


def _shown_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or all of it where that is a number or another key's too."""
    last = [key.rpartition(".")[2] for key in keys]
    is_clear = [not part.isdigit() and last.count(part) == 1 for part in last]
    return {
        key: part if clear else key for key, part, clear in zip(keys, last, is_clear, strict=True)
    }


def _cell(choices: Sequence[_Choice], shown: Mapping[str, str]) -> Cell:
    parts = [
        choice.value if choice.key == CASE else f"{shown[choice.key]}-{_slug(choice.value)}"
        for choice in choices
    ]
    name = "_".join(parts)
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{_digest(name)}"
    return Cell(
        name=name,
        settings={shown[choice.key]: choice.value for choice in choices},
        overrides=tuple(itertools.chain.from_iterable(choice.overrides for choice in choices)),
    )


def _slug(value: str) -> str:
    """The value as a part of a name; what cannot stand there goes into a digest."""
    if PLAIN.fullmatch(value) and len(value) <= LONGEST_VALUE:
        return value
    words = "-".join(re.findall(r"[A-Za-z0-9.]+", value))
    return f"{words[:LONGEST_VALUE]}-{_digest(value)}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]

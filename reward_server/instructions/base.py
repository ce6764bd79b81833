"""How an instruction is found and bound to what it says; the types of its parameters."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from oapl.config import plugins
from oapl.errors import InputError

PACKAGE = "reward_server.instructions"

Relation = Literal["less than", "at least"]
Count = Annotated[int, Field(gt=0)]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Words = Annotated[list[Phrase], Field(min_length=1)]
Check = Callable[[str], bool]


def bind(kind: str, options: Mapping[str, Any]) -> Check:
    """Make the check of one instruction; options that are None count as not given.

    Args:
        kind: `family:name`, as in the published set.
        options: What the instruction asks: keyword of the kind's function to value.

    Raises:
        InputError: An unknown kind; an option that is missing, unknown or of a wrong value. The
            published verifier draws what is missing, 0 or empty at random.
    """
    function = _find(kind)
    wanted = _options(function)
    if not isinstance(options, Mapping):
        raise InputError(f"{kind}: {options!r:.80} is no table of options")
    given = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in given if key not in wanted]
    missing = [key for key in wanted if key not in given]
    if unknown or missing:
        what = f"has no option {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise InputError(f"{kind} {what}; it takes {', '.join(wanted) or 'no options'}")
    values = {}
    for key, value in given.items():
        try:
            values[key] = wanted[key].validate_python(value)
        except ValidationError as error:
            raise InputError(f"{kind}: {key} = {value!r}: {error.errors()[0]['msg']}") from error
    return functools.partial(function, **values)


def kinds() -> list[str]:
    """Every kind, `family:name`."""
    return [f"{family}:{name}" for family in plugins.names(PACKAGE) for name in _public(family)]


def satisfies(count: int, relation: Relation, bound: int) -> bool:
    """Whether a count is `less than` or `at least` the bound.

    Args:
        count: What was counted in the response.
        relation: As the published set words it.
        bound: What the instruction asks for.
    """
    return count < bound if relation == "less than" else count >= bound


def bordered(word: str) -> str:
    """Make the pattern of a word of its own, taken literally: `C++` and `.NET` are words as well.

    A letter, digit or underscore at its edge must not go on there; a sign there is a border itself.
    """
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return before + literal(word) + after


def literal(word: str) -> str:
    """Make the pattern of a word or of several, between which lines may break."""
    return r"\s+".join(map(re.escape, word.split()))


def occurrences(word: str, text: str) -> int:
    """Count how often a word stands in a text, in any case, inside other words too.

    Args:
        word: Taken literally.
        text: The response.
    """
    return len(re.findall(literal(word), text, re.IGNORECASE))


def _find(kind: str) -> Callable[..., bool]:
    family, _, name = str(kind).partition(":")
    if family in plugins.names(PACKAGE) and name in _public(family):
        return getattr(_module(family), name)
    raise InputError(f"{kind!r} is no instruction; there are {', '.join(kinds())}")


def _module(family: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{family}")


@functools.cache
def _public(family: str) -> list[str]:
    module = _module(family)
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


@functools.cache
def _options(function: Callable[..., bool]) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(function, include_extras=True)
    return {key: TypeAdapter(hint) for key, hint in hints.items() if key not in ("text", "return")}

"""What a setting may be: the types of fields, and what makes a class a section of settings.

A plugin file writes its own options with these: `@section class Config`, a field of one of these
types, its default, and under it a docstring, which is its help text.
"""

from __future__ import annotations

import os.path
import unicodedata
from datetime import date
from math import inf
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

T = TypeVar("T")
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4000
"""Of a file's name and of a path, on Linux; a run needs some room below its folder."""
NO_TEXT = ("Cc", "Cs")
"""Kinds of characters: controls, and halves, by which Python shows bytes that are no UTF-8."""
BOOLEANS = "write true or false in small letters, or leave it out"
Count = Annotated[int, Field(ge=1, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Probability = Annotated[Number, Field(gt=0, le=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]


def _path(text: str) -> str:
    """Refuse what no file system can hold; elsewhere it would end in a traceback."""
    path = os.path.expanduser(text)
    if any(unicodedata.category(character) in NO_TEXT for character in path):
        raise ValueError("must be a path in UTF-8 without control characters; rename the file")
    longest = max(len(part.encode()) for part in path.split("/"))
    if longest > MAX_NAME_BYTES or len(path.encode()) > MAX_PATH_BYTES:
        raise ValueError(
            f"must be a path of at most {MAX_PATH_BYTES} bytes, each name in it of at most "
            f"{MAX_NAME_BYTES}; give a shorter one"
        )
    return path


def _date(text: str) -> str:
    try:
        return text and date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("must be a date like 2026-01-31") from None


def _template_options(table: dict[str, Any]) -> dict[str, Any]:
    for name, value in table.items():
        if not name.isidentifier():
            raise ValueError(
                f"{name!r} cannot be a variable of a template; write letters, digits and '_'"
            )
        _demand_plain(name, value)
    return table


def _demand_plain(name: str, value: Any) -> None:
    """What TOML and a template both know, and nothing that only looks like it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _demand_plain(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _demand_plain(f"{name}.{number}", inner)
    elif value in ("True", "False", "None"):
        raise ValueError(f"{name} is the text {value!r}, which is true to a template; {BOOLEANS}")
    elif not isinstance(value, str | int | float) or value in (inf, -inf) or value != value:
        raise ValueError(
            f"{name} is {value}; give text, numbers, booleans, and lists and tables of these"
        )


PathOrHubName = Annotated[str, AfterValidator(_path)]
"""A path or a hub name; `~` is the home directory, also where no shell has seen it."""
PathsOfFolders = Annotated[
    tuple[PathOrHubName, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
]
"""Several of them; a single one may stand without brackets."""
Date = Annotated[str, AfterValidator(_date)]
"""A day, YYYY-MM-DD, or empty."""
TemplateOptions = Annotated[dict[str, Any], AfterValidator(_template_options)]
"""Variables of a chat template: what TOML can hold, but for dates and what is not finite."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[T]) -> type[T]:
    """Makes a class a config section: frozen, keyword-only, validated, unknown keys refused.

    A section that inherits fields, as objectives with options in common do, keeps their docstrings
    too: pydantic reads those of the class itself alone.
    """
    options = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    make = dataclass(config=options, frozen=True, kw_only=True)
    made = make(cls)
    for base in made.__mro__[1:]:
        for name, info in vars(base).get("__pydantic_fields__", {}).items():
            ours = made.__pydantic_fields__[name]
            ours.description = ours.description or info.description
    return cast(type[T], made)

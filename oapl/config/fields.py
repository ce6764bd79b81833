"""What a setting may be: the types of fields, and what makes a class a section of settings.

A plugin file writes its own options with these: `@section class Config`, a field of one of these
types, its default, and under it a docstring, which is its help text.
"""

from __future__ import annotations

import os.path
from typing import Annotated, TypeVar, cast, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

T = TypeVar("T")
Count = Annotated[int, Field(ge=1, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Probability = Annotated[Number, Field(gt=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]
PathOrHubName = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path or a hub name; `~` is the home directory, also where no shell has seen it."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[T]) -> type[T]:
    """Makes a class a config section: frozen, keyword-only, validated, unknown keys refused."""
    options = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    make = dataclass(config=options, frozen=True, kw_only=True)
    return cast(type[T], make(cls))

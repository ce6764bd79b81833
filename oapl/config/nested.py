"""Options of another library's dataclass, as a TOML file or a JSON row holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter


def with_records(made: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Put records and enumerations in the place of the tables and words that stand for them.

    Args:
        made: The dataclass that is made with the options; its type hints say where.
        options: By field; what has another type stays as it is.

    Raises:
        ValueError: A table or word does not fit.
    """
    hints = get_type_hints(made)
    return {
        name: TypeAdapter(hints[name]).validate_python(value)
        if _is_made_of_records(hints.get(name))
        else value
        for name, value in options.items()
    }


def _is_made_of_records(hint: Any) -> bool:
    classes = [one for one in (hint, *get_args(hint)) if isinstance(one, type)]
    return any(dataclasses.is_dataclass(one) or issubclass(one, Enum) for one in classes)

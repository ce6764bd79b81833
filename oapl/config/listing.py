"""What settings there are, read from the sections themselves: for help texts and error messages.

A setting is found by its path, `("data", "sources", 0, "path")`; written, it is
`data.sources.0.path`. In listings the index of a list of sections is `N`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from oapl.config import RunConfig

Path = Sequence[int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of a section.

    Attributes:
        key: Dotted.
        default: Its default; None when it has none (no setting is None).
        choices: What a setting with fixed choices may be.
        help: The docstring under the field, on one line.
    """

    key: str
    default: Any
    choices: tuple[str, ...]
    help: str


def settings(section: type = RunConfig, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a section and of the sections within, in order of declaration.

    Args:
        section: Or a plugin's Config.
        prefix: Dotted key of the section with its dot; empty for a whole run.
    """
    for name, info in fields(section).items():
        inner = _section_in(info.annotation)
        if inner is None:
            yield setting(f"{prefix}{name}", info)
        else:
            index = "" if is_section(info.annotation) else "N."
            yield from settings(inner, f"{prefix}{name}.{index}")


def setting(key: str, info: FieldInfo) -> Setting:
    """What there is to know of one setting.

    Args:
        key: Dotted.
        info: Its field.
    """
    default = info.get_default(call_default_factory=True, validated_data={})
    return Setting(
        key=key,
        default=None if default is PydanticUndefined else default,
        choices=_choices(info.annotation),
        help=" ".join((info.description or "").split()),
    )


def fields(section: type) -> dict[str, FieldInfo]:
    """The fields of a section, or of a plugin's Config."""
    return getattr(section, "__pydantic_fields__", {})


def is_section(annotation: Any) -> bool:
    """Whether a type is a section, or a plugin's Config."""
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__")


def section_at(path: Path, root: type = RunConfig) -> type | None:
    """The section at `path`; None where there is none, or a table of free keys.

    Args:
        path: Keys, and indices of lists.
        root: Where the path begins.
    """
    current: Any = root
    for part in path:
        if not is_section(current):
            return None
        if isinstance(part, int):
            continue  # an element of a list of sections: `current` is its type already
        info = fields(current).get(part)
        current = None if info is None else _section_in(info.annotation)
    return current if is_section(current) else None


def field_at(path: Path, root: type = RunConfig) -> FieldInfo | None:
    """The field at `path`; None where there is none.

    Args:
        path: Keys, and indices of lists.
        root: Where the path begins.
    """
    if not path or not isinstance(path[-1], str):
        return None
    section = section_at(path[:-1], root)
    return None if section is None else fields(section).get(path[-1])


def dotted(path: Path) -> str:
    """A path as one writes it."""
    return ".".join(str(part) for part in path)


def literal(value: Any) -> str:
    """A value as one writes it in TOML; what TOML cannot hold, as Python shows it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {literal(v)}" for key, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str | bool | int | float):
        return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
    return repr(value)


def _section_in(annotation: Any) -> type | None:
    """The section that a field holds, one or a list of them."""
    if is_section(annotation):
        return annotation  # type: ignore[no-any-return]
    inner = [arg for arg in typing.get_args(annotation) if is_section(arg)]
    return inner[0] if inner else None


def _choices(annotation: Any) -> tuple[str, ...]:
    is_literal = typing.get_origin(annotation) is typing.Literal
    return tuple(map(str, typing.get_args(annotation))) if is_literal else ()

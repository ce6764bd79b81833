"""A TOML recipe and dotted overrides become a RunConfig; a RunConfig becomes TOML again.

    load_config(Path("recipe.toml"), ["sync.interval=50", "data.sources.0.path=train.jsonl"])

A value is read as TOML (`1e-6`, `true`, `[1, 8]`, `"text"`) and otherwise taken as bare text.
Overrides add to the recipe's tables, not to the defaults: `reward.verifiers.format=0.1` without a
`[reward]` in the recipe leaves format as the only verifier. Relative paths, in a recipe too, are
relative to the directory in which the command is given. A recipe may extend others (`recipes`).
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from oapl.config import RunConfig, protocols
from oapl.config.listing import field_at
from oapl.config.messages import explain
from oapl.config.recipes import Table, read_recipe
from oapl.errors import InputError

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe, apply overrides in order, validate each setting by itself.

    Args:
        path: A TOML file; None starts from the defaults.
        overrides: `a.b.c=value`; a list is indexed by number, and the index after the last appends.

    Raises:
        InputError: One line per problem, the dotted key first.
    """
    table = {} if path is None else read_recipe(path)
    _lay_protocol(table, overrides)
    for override in overrides:
        _apply(table, override)
    try:
        return RunConfig(**table)
    except ValidationError as error:
        where = [] if path is None else [f"{path}:"]
        raise InputError("\n".join([*where, *explain(error)])) from error


def to_toml(config: RunConfig) -> str:
    """The whole configuration, defaults included; `load_config` reads it back to an equal one.

    Raises:
        InputError: A plugin's option holds what TOML cannot.
    """
    try:
        return tomli_w.dumps(dataclasses.asdict(config))
    except TypeError as error:
        raise InputError(
            f"a plugin's option cannot be written to config.toml ({error}); use numbers, text, "
            "booleans, lists and tables"
        ) from error


def _lay_protocol(table: Table, overrides: Sequence[str]) -> None:
    """Lay a protocol that an override names over the recipe; the other overrides follow."""
    start = f"{protocols.SECTION}.{protocols.KEY}"
    for override in overrides:
        key, _, text = override.partition("=")
        name = value_of(text.strip()) if key.strip() == start else None
        for setting, value in (
            protocols.read(name) if isinstance(name, str) and name else {}
        ).items():
            _set(table, [protocols.SECTION, setting], value, override)


def _apply(table: Table, override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not KEY.fullmatch(key):
        hint = "without dashes in front" if override.startswith("-") else "with one '='"
        raise InputError(
            f"override {override!r} is not section.key=value; write it {hint}, "
            "as in sync.interval=50"
        )
    if not _is_utf8(override):
        raise InputError(f"override {override!r} is no text in UTF-8; write it so")
    parts = [int(part) if part.isdigit() else part for part in key.split(".")]
    _set(table, parts, _value(parts, text.strip()), override)


def _is_utf8(text: str) -> bool:
    """Whether text can be written: bytes of a command line that are no UTF-8 become halves of
    characters."""
    return text.encode(errors="replace").decode() == text


def _value(path: Sequence[int | str], text: str) -> Any:
    """What a setting is given: one that holds text takes `2024` as text, too."""
    value, info = value_of(text), field_at(path)
    is_text = info is not None and info.annotation is str
    return text if is_text and not isinstance(value, str) else value


def value_of(text: str) -> Any:
    """Read a value as a TOML literal, else as bare text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _set(table: Table, path: Sequence[int | str], value: Any, override: str) -> None:
    current: Any = table
    for here, after in zip(path, [*path[1:], None], strict=True):
        if isinstance(current, list):
            current = _element(current, here, after, value, override)
        elif isinstance(current, dict):
            if after is None:
                current[str(here)] = value
            else:
                current = current.setdefault(str(here), [] if isinstance(after, int) else {})
        else:
            raise InputError(
                f"override {override!r}: {here!r} lies inside {current!r}, which is no section; "
                "give the whole value instead"
            )


def _element(
    items: list[Any], index: int | str, after: int | str | None, value: Any, override: str
) -> Any:
    """The list's element to go on with; the index after the last appends."""
    if not isinstance(index, int) or index > len(items):
        places = f"0 to {len(items)}" if items else "0"
        raise InputError(
            f"override {override!r}: {index!r} is no place in a list of {len(items)}; use {places}"
        )
    if index == len(items):
        items.append({})
    if after is None:
        items[index] = value
    return items[index]

"""Recipe files: a table of settings, and `extends`, by which a recipe takes over others.

    extends = "oapl_math_l50.toml"          # or several: a later one is laid over those before it
    optimizer.lr = 3e-6                     # what the file says itself is laid over them all
    data.sources.0.path = "mine.jsonl"      # a list's element by its number, as in an override

A path in `extends` is relative to the file that it stands in. Tables are laid over one another key
by key, anything else replaces what was there: a list given as a list the whole list, `verifiers`
all verifiers, whose weights would add up, and an [objective] of another name the whole objective,
whose options would not suit it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oapl.config.protocols import expanded
from oapl.errors import InputError

EXTENDS = "extends"
WHOLE = ("verifiers",)
"""Settings that are tables, and are given whole."""

Table = dict[str, Any]


def read_recipe(path: Path) -> Table:
    """Read a recipe laid over those that it extends.

    Raises:
        InputError: One of the files is missing or no TOML, extends itself, or does not fit what it
            extends.
    """
    return _read(path, ())


def files_of(path: Path) -> list[Path]:
    """List the file and those that it extends, each once, in the order in which they are read.

    Raises:
        InputError: As of `read_recipe`.
    """
    found: list[Path] = []

    def add(file: Path, inside: tuple[Path, ...]) -> None:
        for base in _bases(file, read_toml(file), inside):
            add(base, (*inside, file))
        if file not in found:
            found.append(file)

    add(path, ())
    return found


def read_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        InputError: There is none, or it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = sorted(p.name for p in path.absolute().parent.glob("*.toml"))
        found = f"; {path.parent} has {', '.join(near)}" if near else ""
        raise InputError(f"recipe {path} does not exist{found}; give the path of a file") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {path} is not valid TOML: {error}; correct that place") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"recipe {path} cannot be read ({error}); give a text file in TOML"
        ) from error


def laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> Table:
    """Lay a table of settings over another; neither is changed.

    Args:
        base: A recipe's.
        own: What is said beside it, and comes first.

    Raises:
        InputError: A number that is no place in the list that it counts.
    """
    before = dict(base)
    if (name := _objective(own)) and (other := _objective(base)) and name != other:
        del before["objective"]
    table: Table = _laid(before, own, "")
    return table


def _objective(table: Mapping[str, Any]) -> Any:
    """The name of the objective that a table names; None where it names none."""
    given = table.get("objective")
    return given.get("name") if isinstance(given, Mapping) else None


def _read(path: Path, inside: tuple[Path, ...]) -> Table:
    own = read_toml(path)
    table: Table = {}
    for base in _bases(path, own, inside):
        table = _over(path, table, _read(base, (*inside, path)))
    return _over(path, table, {key: value for key, value in own.items() if key != EXTENDS})


def _over(path: Path, base: Table, own: Table) -> Table:
    try:
        return laid_over(base, expanded(own))
    except InputError as error:
        raise InputError(f"recipe {path}: {error}") from error


def _bases(path: Path, table: Table, inside: tuple[Path, ...]) -> list[Path]:
    """The files that one extends; `inside` are those on the way to it."""
    given = table.get(EXTENDS, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"recipe {path}: {EXTENDS} = {given!r}: must be the path of a recipe, or a list of them"
        )
    bases = [path.parent / Path(name).expanduser() for name in names]
    for base in bases:
        way = [*inside, path, base]
        if base.resolve() in [file.resolve() for file in way[:-1]]:
            told = " extends ".join(map(str, way))
            raise InputError(f"recipe {path} extends itself: {told}; leave one of them out")
        if not base.is_file():
            raise InputError(
                f"recipe {path}: {EXTENDS} names {base}, which is no file; a path there is "
                "relative to the recipe that it stands in"
            )
    return bases


def _laid(base: Any, own: Any, key: str) -> Any:
    if not isinstance(own, Mapping):
        return own
    if isinstance(base, list) and own and all(part.isdigit() for part in own):
        return _elements(base, own, key)
    is_whole = key.rpartition(".")[2] in WHOLE
    below = base if isinstance(base, Mapping) and not is_whole else {}
    start = f"{key}." if key else ""
    ours = {name: _laid(below.get(name), value, start + name) for name, value in own.items()}
    return {**below, **ours}


def _elements(base: list[Any], own: Mapping[str, Any], key: str) -> list[Any]:
    """The list with the elements that are named by number; the one after the last is appended."""
    items = list(base)
    for place, part in sorted((int(part), part) for part in own):
        if place > len(items):
            raise InputError(
                f"{key}.{part}: is no place in a list of {len(items)}; use 0 to {len(items)}"
            )
        before = items[place] if place < len(items) else {}
        items[place : place + 1] = [_laid(before, own[part], f"{key}.{part}")]
    return items

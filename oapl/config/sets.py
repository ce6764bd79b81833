"""Public data sets by name: `set = "gsm8k"` in a source stands for what the set's file says.

A file is a source without a name: where the set lies, what its columns are called, who judges it.
What the source itself says comes first; with a `path` (or another origin of its own) the set says
the columns alone. So a configuration that was written out reads back as the same one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from oapl.errors import InputError

PACKAGE = "actors.data.sets"
ORIGIN = ("dataset", "subset", "split")
"""Where a set lies: settings that a source with an origin of its own does not take from it."""


def names() -> list[str]:
    """The sets there are."""
    files = [entry.name for entry in resources.files(PACKAGE).iterdir()]
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def with_set(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete a source by the set that it names; one that names none stays as it is.

    Args:
        source: As a user wrote it.

    Raises:
        InputError: There is no such set.
    """
    name = source.get("set")
    if not name:
        return source
    known = names()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"set = {name!r}: {hint}there are {', '.join(known)}")
    text = (resources.files(PACKAGE) / f"{name}.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    if source.get("path") or source.get("dataset"):
        table = {key: value for key, value in table.items() if key not in ORIGIN}
    return {"name": name, **table, **source}

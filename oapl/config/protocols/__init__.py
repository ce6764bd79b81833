"""Named protocols of evaluation: one small TOML file each, in this folder.

A file holds settings of the section `eval` that say how problems are answered and what counts as
right. `eval.protocol = "avg32_t1"` lays them under what else is said beside it, and over what a
recipe is laid over: a recipe over those that it extends, an override over the recipe, a stage over
the whole. So a configuration that was written out reads back as the same one. A name that ends in
`.toml` is a file of the user's own. A file's comment gives its source, and what is a reading.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oapl.errors import InputError

FOLDER = Path(__file__).parent
KEY, SECTION = "protocol", "eval"
SETTINGS = (
    *("num_samples", "ks", "temperature", "top_p", "top_k", "max_tokens", "greedy", "threshold"),
)
"""What a protocol may say."""

Table = dict[str, Any]


def names() -> list[str]:
    """The protocols there are."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str, setting: str = f"{SECTION}.{KEY}") -> Table:
    """Read what a protocol says.

    Args:
        name: Of a file here, or the path of another one, which ends in `.toml`.
        setting: Key to name in the error.

    Raises:
        InputError: There is none, or it says what no protocol may.
    """
    path = Path(name).expanduser() if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"{setting} = {name!r}: {hint}must be one of {', '.join(names())}, or the path of a "
            ".toml file with such settings"
        ) from error
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{setting} = {name!r}: {path} is no TOML ({error})") from error
    if unknown := [key for key in table if key not in SETTINGS]:
        raise InputError(
            f"{setting} = {name!r}: {path} says {', '.join(unknown)}; a protocol says no more than "
            f"{', '.join(SETTINGS)}"
        )
    return table


def laid_under(section: Mapping[str, Any]) -> Table:
    """Lay the protocol that a table of the section `eval` names under what it says itself.

    Args:
        section: As a user wrote it; one that names none is given back as it is.

    Raises:
        InputError: As of `read`.
    """
    name = section.get(KEY)
    said = read(name) if isinstance(name, str) and name else {}
    number = section.get("num_samples")
    if "ks" in said and isinstance(number, int):  # another number than that which they are for
        said["ks"] = [k for k in said["ks"] if k <= number]
    return {**said, **section}


def expanded(recipe: Mapping[str, Any]) -> Table:
    """Do the same in a table of a whole recipe.

    Raises:
        InputError: As of `read`.
    """
    section = recipe.get(SECTION)
    if not isinstance(section, Mapping):
        return dict(recipe)
    return {**recipe, SECTION: laid_under(section)}

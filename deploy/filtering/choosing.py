"""Which filters, with which options, in which order: from the command line or from a TOML file.

--filter mean_length min_tokens=1000 --filter solvable

[[filters]]
name = "mean_length"
min_tokens = 1000

[[filters]]
name = "solvable"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.filters.base import FILTERS, Filter
from oapl.config import plugins
from oapl.config.recipes import read_toml
from oapl.config.toml import value_of
from oapl.errors import InputError

TABLE = "filters"
EXAMPLE = "--filter mean_length min_tokens=1000"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A filter that will be applied.

    Attributes:
        name: Of its file.
        options: As the user wrote them.
        filter: Built from them.
    """

    name: str
    options: Mapping[str, Any]
    filter: Filter

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def from_words(words: Sequence[Sequence[str]], threshold: float) -> list[Chosen]:
    """Build the filters of a command line.

    Args:
        words: Of each filter its name, then `key=value`.
        threshold: A rollout is right where its reward is above this.

    Raises:
        InputError: No such filter, or an option that it has not or cannot take.
    """
    found = []
    for name, *rest in words:
        options: dict[str, Any] = {}
        for word in rest:
            key, equals, value = word.partition("=")
            if not equals:
                raise InputError(
                    f"--filter {name} {word!r}: an option is key=value, as in {EXAMPLE!r}; give "
                    "each filter a --filter of its own"
                )
            options[key] = value_of(value)
        found.append(_chosen(name, options, threshold, f"--filter {name} "))
    return found


def from_file(path: Path, threshold: float) -> list[Chosen]:
    """Build the filters of a TOML file.

    Args:
        path: With tables `[[filters]]`, and nothing else.
        threshold: A rollout is right where its reward is above this.

    Raises:
        InputError: It cannot be read, or names a filter or an option that there is not.
    """
    tables = read_toml(path)
    listed = tables.get(TABLE)
    others = [key for key in tables if key != TABLE]
    if others or not isinstance(listed, list) or not all(isinstance(t, dict) for t in listed):
        what = f"has {', '.join(others)}" if others else f"has no tables [[{TABLE}]]"
        raise InputError(
            f"{path} {what}; it must be a list of tables [[{TABLE}]], each with a name and the "
            "filter's options"
        )
    return from_tables(listed, threshold, f"{path}: {TABLE}.")


def from_tables(tables: Sequence[Mapping[str, Any]], threshold: float, where: str) -> list[Chosen]:
    """Build the filters of a list of tables.

    Args:
        tables: Each with the name of a filter and its options.
        threshold: A rollout is right where its reward is above this.
        where: They stand, with a dot behind it, for errors.

    Raises:
        InputError: One names a filter or an option that there is not.
    """
    return [
        _chosen(
            table.get("name"),
            {key: value for key, value in table.items() if key != "name"},
            threshold,
            f"{where}{number}.",
        )
        for number, table in enumerate(tables)
    ]


def _chosen(name: Any, options: dict[str, Any], threshold: float, where: str) -> Chosen:
    file = FILTERS.load(name, f"{where}name" if where.endswith(".") else "--filter")
    config: Any = plugins.parse(file.Config, options, where)
    return Chosen(name=name, options=options, filter=file.build(config, threshold))

"""Tables of what recipes say, for the pages in docs/papers.

A page has a line `<!-- recipes: NAME NAME -->`; what follows, to the line `<!-- end -->`, is made
of these recipes: a table of their own settings side by side, and of each recipe that has stages a
table of these. Invariant: a value or a remark that stands there stands in the recipe.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oapl.config.listing import literal

RECIPES = Path(__file__).with_name("recipes")
OF_THE_MACHINE = (
    *("run.name", "cluster.device", "rollout.num_engines", "rollout.tensor_parallel_size"),
    *("learner.num_ranks", "learner.zero_stage", "learner.micro_batch_tokens"),
    "learner.activation_checkpointing",
)
"""Names, and what a machine asks for: `oapl train RECIPE --for MACHINE` is about these."""
STAGES = "stages"
TOGETHER = "verifiers"
"""A table that is one setting: its keys are names, with their weights."""
_BLOCK = re.compile(r"(<!-- recipes: ([a-z0-9_ ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"^\[+([\w.]+)\]+")
_REMARK = re.compile(r"^([\w.]+) *=.*?\s#\s+(.*\S)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a recipe says.

    Attributes:
        name: Its file's, without the ending.
        values: By dotted key, as TOML has them.
        stages: The same of each stage.
        remarks: What stands behind a key, in the recipe or in the stage of that number.
    """

    name: str
    values: Mapping[str, str]
    stages: tuple[Mapping[str, str], ...]
    remarks: Mapping[tuple[int, str], str]


def filled(page: str, folder: Path = RECIPES) -> str:
    """Make the tables of a page anew.

    Args:
        page: Its text.
        folder: Of the recipes.

    Raises:
        FileNotFoundError: It names a recipe that is not there.
    """

    def made(block: re.Match[str]) -> str:
        said = [read(folder / f"{name}.toml") for name in block[2].split()]
        return "\n".join([block[1], *_tables(said), "", block[3]])

    return _BLOCK.sub(made, page)


def read(path: Path) -> Said:
    """Read what a recipe itself says, without those that it extends.

    Args:
        path: Of the recipe.
    """
    text = path.read_text()
    table = tomllib.loads(text)
    stages = table.pop(STAGES, [])
    return Said(
        name=path.stem,
        values=dict(_flat(table)),
        stages=tuple(dict(_flat(stage)) for stage in stages),
        remarks=dict(_remarks(text)),
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict) and value and key != TOGETHER:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", literal(value)


def _remarks(text: str) -> Iterator[tuple[tuple[int, str], str]]:
    """By the stage's number, 0 before the first, and the dotted key."""
    stage, prefix = 0, ""
    for line in text.splitlines():
        if line.startswith(f"[[{STAGES}]]"):
            stage, prefix = stage + 1, ""
        elif section := _SECTION.match(line):
            prefix = f"{section[1]}."
        elif found := _REMARK.match(line):
            yield (stage, f"{prefix}{found[1]}"), found[2]


def _tables(said: Sequence[Said]) -> Iterator[str]:
    yield from _side_by_side(said)
    for one in said:
        if one.stages:
            yield ""
            yield from _of_stages(one)


def _side_by_side(said: Sequence[Said]) -> Iterator[str]:
    keys = dict.fromkeys(key for one in said for key in one.values if key not in OF_THE_MACHINE)
    yield _row(["setting", *(f"`{one.name}`" for one in said), "remark in the recipe"])
    yield "|" + "---|" * (len(said) + 2)
    for key in keys:
        cells = [f"`{one.values[key]}`" if key in one.values else "" for one in said]
        yield _row([f"`{key}`", *cells, _remark([one for one in said if key in one.values], key)])


def _remark(said: Sequence[Said], key: str) -> str:
    """What these recipes remark on a key, with their names where they do not all say the same."""
    found = {one.name: one.remarks.get((0, key), "") for one in said}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    names: dict[str, list[str]] = {}
    for name, remark in found.items():
        names.setdefault(remark, []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names[one])}: {one}" for one in names if one)


def _of_stages(one: Said) -> Iterator[str]:
    yield f"`{one.name}`, stage by stage:"
    yield ""
    yield _row(["stage", "what it says", "the recipe's remarks"])
    yield "|---|---|---|"
    for number, stage in enumerate(one.stages, 1):
        named = stage.get("name", stage.get("kind", "")).strip('"')
        keys = [key for key in stage if key != "name"]
        remarks = [f"{key}: {found}" for key in keys if (found := one.remarks.get((number, key)))]
        cells = ", ".join(f"`{key} = {stage[key]}`" for key in keys)
        yield _row([f"{number} {named}", cells, "; ".join(remarks)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

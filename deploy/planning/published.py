"""`docs/plans.md`: what is foreseen of the settings that papers print, beside what they state.

    python -m deploy.planning.published      # writes it anew; `make docs` does it, too

All rates are assumed, and so are lengths where a paper has none: hours stand for three of them.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.planning.lengths import MEAN_SHARE
from deploy.planning.making import Asked, Plan, plan
from deploy.planning.shown import changes, figure
from deploy.sizing.hardware import parse
from deploy.sizing.shape import Shape, count
from oapl.config import RunConfig
from oapl.config.toml import load_config

PAGE = Path(__file__).parents[2] / "docs" / "plans.md"
RECIPES = Path(__file__).parents[1] / "recipes"
STATED = Path(__file__).with_name("published.toml")
SHARES = (0.2, 0.6)
"""Of the longest response the mean, beside the share that is assumed."""
HEADINGS = (
    *("recipe", "machine", "the paper states", "hours of the recipe", "device-hours", "idle"),
    *("thrown away", "largest lag", "what holds it up", "within the same lag"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting: what is said of it, and its plans, by the mean length of a response.

    Attributes:
        said: Its table in `published.toml`.
        main: At the length that is assumed, or given.
        others: At shorter and at longer responses; none where the length is the paper's.
    """

    said: Mapping[str, Any]
    main: Plan
    others: tuple[Plan, ...]


def rows() -> list[Row]:
    """Plan every setting of the table."""
    table = tomllib.loads(STATED.read_text())
    return [_row(said, table["models"]) for said in table["plans"]]


def _row(said: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Row:
    config = load_config(RECIPES / f"{said['recipe']}.toml", [])
    asked = Asked(
        hardware=parse(said["machine"]),
        card=said["card"],
        lengths=said.get("lengths", ""),
        questions=said.get("questions", 0),
        shape=_shape(models[config.model.path]),
    )
    others = () if asked.lengths else tuple(_at(config, asked, share) for share in SHARES)
    return Row(said=said, main=plan(config, asked), others=others)


def _at(config: RunConfig, asked: Asked, share: float) -> Plan:
    mean = share * config.rollout.max_tokens
    return plan(config, dataclasses.replace(asked, lengths=f"mean={mean:g}", is_searched=False))


def _shape(said: Mapping[str, Any]) -> Shape:
    """Its parameters are counted; biases of queries, keys and values are no matter."""
    shape = Shape(parameters=0, **said)
    return dataclasses.replace(shape, parameters=count(shape))


def page() -> str:
    """Make the page."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(_cells, rows())]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["# Published settings, planned", *_before(), table, *_after()]) + "\n"


def _before() -> Iterator[str]:
    yield (
        "What `oapl plan` foresees of the settings that papers print, as our recipes have them, "
        "beside what the papers state. **Every rate in it is assumed from data sheets** "
        "(`deploy/planning/assumptions.py`), none was measured on such a machine, and nothing of "
        "it was run at its size: read it for what bounds a run, not for hours. Made by `make docs`."
    )


def _after() -> Iterator[str]:
    yield (
        f"Hours are for responses of {MEAN_SHARE:g} of the longest one on average; in brackets for "
        f"{SHARES[0]:g} and {SHARES[1]:g} of it, where the paper says no length. Idle: of the "
        "learner's time waits for groups, and of the engines' places those that are empty. The "
        "last column is what ends the run soonest on the same devices within the recipe's own "
        "bound on the lag, and its hours; what memory does not allow is left out (`oapl train "
        "RECIPE --for MACHINE`)."
    )
    yield (
        "ProRL and ReMix train and generate in turn on the same cards (verl), so that all of them "
        "do either; here each card does one. PCL's training is tensor and pipeline parallel, ours "
        "is neither."
    )


def _cells(row: Row) -> list[str]:
    main, said = row.main, row.said
    found, task = main.found, main.task
    hours = figure(found.hours + found.making_hours)
    if row.others:
        ends = [figure(one.found.hours + one.found.making_hours) for one in row.others]
        hours = f"{hours} ({' to '.join(ends)})"
    return [
        f"`{said['recipe']}`, {task.max_steps:,} learner steps",
        f"{said['machine']} ({said['card']})",
        f"{said['states']} ({said['where']})",
        hours,
        figure(found.device_hours),
        f"{found.waits:.0%}, {found.engine_idle:.0%}" if task.engines else "",
        f"{found.wasted:.0%}" if task.engines else "",
        str(found.largest_lag) if task.engines else "",
        found.bottleneck,
        _best(main),
    ]


def _best(main: Plan) -> str:
    if main.best is None:
        return ""
    overrides = changes(main.task, main.best.task)
    hours = f"{figure(main.best.found.hours)} h"
    return f"`{overrides}`: {hours}" if overrides else f"nothing better: {hours}"


def write(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page())


if __name__ == "__main__":
    write()

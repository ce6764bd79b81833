"""A comparison as tables and words, or as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deploy.commands._compare.outcome import Compared
from deploy.commands._compare.over_seeds import OverSeeds
from deploy.commands._compare.sides import Run
from deploy.run.evaluation_files import told
from oapl.comparison.paired import Difference
from oapl.comparison.words import POINTS, figures, p_told, scale_of, verdict

UNITS = {"length": "tokens"}
"""Of measures that are no shares or rewards."""


def show(outcome: Compared, a: Sequence[Run], b: Sequence[Run], console: Console) -> None:
    """Print a comparison.

    Args:
        outcome: Of both sides.
        a, b: Their runs.
        console: Where to.
    """

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for side, runs in (("A", a), ("B", b)):
        for run in runs:
            say(f"{side}: {run}")
        protocols = {name: one.made.protocol for name, one in runs[0].sets.items()}
        for line in told(protocols):
            say(f"   {line}")
    console.print(_table(outcome.differences))
    if outcome.seeds is not None:
        console.print(_seeds_table(outcome.seeds))
    for note in outcome.notes:
        say(note)
    for line in sentences(outcome):
        say(line)


def sentences(outcome: Compared) -> list[str]:
    """The verdict of each test in words."""
    lines = [f"{_name(one, outcome)}{verdict(one, _unit(one))}" for one in outcome.differences]
    if (seeds := outcome.seeds) is not None:
        said = figures(seeds.change, seeds.low, seeds.high, unit=_unit_of(seeds.measure))
        lines.append(f"interquartile mean over runs and sets: {said}")
    return lines


def as_json(outcome: Compared, a: Sequence[Run], b: Sequence[Run]) -> str:
    """The same as JSON; what is not known is null.

    Args:
        outcome: Of both sides.
        a, b: Their runs.
    """
    table = {
        **{side: [_run(run) for run in runs] for side, runs in (("a", a), ("b", b))},
        "differences": [_row(one) for one in outcome.differences],
        "seeds": None if outcome.seeds is None else dataclasses.asdict(outcome.seeds),
        "notes": list(outcome.notes),
    }
    return json.dumps(_known(table), indent=1)


def _run(run: Run) -> Mapping[str, Any]:
    sets = {name: one.made.protocol.to_json() for name, one in run.sets.items()}
    return {"place": str(run.place), "label": run.label, "protocols": sets}


def _row(one: Difference) -> Mapping[str, Any]:
    derived = {"change": one.change, "relative": one.relative, "unit": _unit(one)}
    coins = one.discordant
    mcnemar = None if coins is None else {"gained": coins.gained, "lost": coins.lost, "p": coins.p}
    said = {"verdict": verdict(one, _unit(one))}
    return {**dataclasses.asdict(one), **derived, "discordant": mcnemar, **said}


def _known(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, Mapping):
        return {key: _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(differences: Sequence[Difference]) -> Table:
    is_many = len(differences) > 1
    table = Table(title="B against A, differences in points", box=box.SIMPLE_HEAVY)
    table.add_column("set", overflow="fold")
    table.add_column("measure", overflow="fold")
    headings = ["n", "A", "B", "B - A", "95 %\ninterval", "relative", "p"]
    for heading in [*headings, *(["p among\nall tests"] if is_many else [])]:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in differences:
        table.add_row(*_cells(one, is_many))
    return table


def _cells(one: Difference, is_many: bool) -> list[str]:
    unit = _unit(one)
    scale, digits = scale_of(unit)
    low, high = (f"{scale * value:.{digits}f}" for value in (one.low, one.high))
    measure = one.measure if unit == POINTS else f"{one.measure}, {unit}"
    cells = [one.name, measure, str(one.pairs), *(f"{v:.3f}" for v in (one.before, one.after))]
    cells += [f"{scale * one.change:+.{digits}f}", f"{low} to {high}"]
    cells.append("-" if one.relative is None else f"{one.relative:+.1%}")
    ps = (one.p, one.final_p) if is_many else (one.p,)
    return [*cells, *(p_told(p).removeprefix("p = ").removeprefix("p ") for p in ps)]


def _seeds_table(seeds: OverSeeds) -> Table:
    table = Table(title=f"over seeds: {seeds.measure}", box=box.SIMPLE_HEAVY)
    table.add_column("figure")
    for heading in (f"A, {seeds.runs[0]} runs", f"B, {seeds.runs[1]} runs", "B - A"):
        table.add_column(heading, justify="right")
    for one in seeds.maxima:
        name = f"mean of each run's best, {one.name}"
        table.add_row(name, _with_error(*one.a), _with_error(*one.b), f"{one.b[0] - one.a[0]:+.3f}")
    row = (f"{seeds.iqm_a:.3f}", f"{seeds.iqm_b:.3f}", f"{seeds.change:+.3f}")
    table.add_row("interquartile mean, all sets", *row)
    return table


def _with_error(mean: float, error: float) -> str:
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _name(one: Difference, outcome: Compared) -> str:
    return f"{one.name} {one.measure}: " if len(outcome.differences) > 1 else ""


def _unit(one: Difference) -> str:
    return _unit_of(one.measure)


def _unit_of(measure: str) -> str:
    return UNITS.get(measure, POINTS)

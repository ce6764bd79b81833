"""One run folder, read back: its settings, its lines of metrics, its evaluations and its stages.

Invariants: nothing of the folder is written; a run that is still going on, or that was killed, is
read as far as it has come; what a run has not recorded is an empty curve.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oapl.comparison import SE
from oapl.config.recipes import read_toml
from oapl.errors import InputError
from oapl.reports._study.answers import Answered, answered_at
from oapl.reports._study.curves import Curve, curve
from oapl.tracking import history
from oapl.tracking.lines import (
    CLOCK,
    METRICS_FILE,
    Row,
    is_evaluation,
)
from oapl.tracking.names import STEP

RECIPE, STAGES = "config.toml", "stages.json"
MADE = "time/step_s"
"""In every line of a learner step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation of a run, all its sets together.

    Attributes:
        step: Learner steps made before it.
        at: Unix time of its line.
        figures: By name, `eval/SET/MEASURE`.
    """

    step: int
    at: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMark:
    """Where a stage of the run begins.

    Attributes:
        step: Learner steps made before it.
        name: Its name.
    """

    step: int
    name: str


class Run:
    """A run folder.

    Args:
        folder: The run's.

    Attributes:
        name: The folder's.
        settings: Of `config.toml`, by dotted key, without defaults that it does not name.
        lines: Of the learner steps, in their order.
        evaluations: In their order; the first is that before training, where there was one.

    Raises:
        InputError: No run has written there.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / METRICS_FILE).is_file():
            raise InputError(
                f"{folder} holds no metrics of a run ({METRICS_FILE}); name the folder of a run "
                "that has made a step or an evaluation"
            )
        self.folder = folder
        self.name = folder.absolute().name
        recipe = folder / RECIPE
        self.settings = dict(_flat(read_toml(recipe))) if recipe.is_file() else {}
        rows = list(history.rows(folder))
        if not rows:
            raise InputError(
                f"{folder / METRICS_FILE} has no whole line yet; wait for the run's first one"
            )
        self.lines = [row for row in rows if not is_evaluation(row)]
        self.evaluations = [*_merged(row for row in rows if is_evaluation(row))]
        self._rows = rows

    @cached_property
    def names(self) -> frozenset[str]:
        """Of all metrics in the lines of learner steps."""
        return frozenset(name for line in self.lines for name in line)

    @property
    def steps(self) -> int:
        """Learner steps made."""
        return max((int(row[STEP]) for row in self._rows), default=0)

    @cached_property
    def began(self) -> float:
        """Unix time before the first line."""
        first = self._rows[0]
        return float(first.get(CLOCK) or 0.0) - float(first.get(MADE) or 0.0)

    @cached_property
    def seconds(self) -> float:
        """Wall time from the beginning to the last line, pauses between two commands included."""
        return max(float(self._rows[-1].get(CLOCK) or 0.0) - self.began, 0.0)

    def setting(self, key: str, default: Any = None) -> Any:
        """Look up a setting of the recipe.

        Args:
            key: Dotted.
            default: Where the recipe does not have it.
        """
        return self.settings.get(key, default)

    def curve(self, name: str) -> Curve:
        """Give a metric over learner steps."""
        pairs = [(line[STEP], line[name]) for line in self.lines if line.get(name) is not None]
        return curve(*zip(*pairs, strict=True)) if pairs else curve([], [])

    def total(self, name: str) -> float:
        """Add up a count over all lines, the one that closes an attempt too, which has the step of
        the line before; 0 where it was never recorded."""
        counts = [line[name] for line in self.lines if line.get(name) is not None]
        return float(np.nansum(np.asarray(counts, np.float64)))

    def evaluated(self, measure: str, of: str | None = None) -> Curve:
        """Give a measure of the evaluations over learner steps.

        Args:
            measure: `pass@1`, `length_mean`; `mean@n` and `maj@n` for whatever n there is.
            of: A set; None: the mean over the sets that have it.
        """
        pairs = []
        for one in self.evaluations:
            found = [
                value
                for name, value in one.figures.items()
                if value is not None and is_measure(name, measure, of)
            ]
            if found:
                pairs.append((one.step, sum(found) / len(found)))
        return curve(*zip(*pairs, strict=True)) if pairs else curve([], [])

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Evaluation sets in the order of the recipe, and their categories, `SET/CATEGORY`."""
        names = (_parts(name)[0] for one in self.evaluations for name in one.figures)
        return tuple(dict.fromkeys(names))

    @property
    def sets(self) -> tuple[str, ...]:
        """Evaluation sets, in the order of the recipe."""
        return tuple(place for place in self.places if "/" not in place)

    @cached_property
    def clock(self) -> Curve:
        """Seconds since the beginning over learner steps."""
        pairs = [(row[STEP], row[CLOCK] - self.began) for row in self._rows if row.get(CLOCK)]
        first: dict[int, float] = {}
        for step, at in pairs:
            first.setdefault(step, at)
        return curve(list(first), list(first.values()))

    @cached_property
    def worked(self) -> Curve:
        """Seconds at work over learner steps; of a run that has not counted them, wall time."""
        found = self.curve("total/hours")
        if not found:
            return self.clock
        first = min(int(row[STEP]) for row in self._rows)
        return curve([first, *found.x], [0.0, *(3600 * found.y)])

    @cached_property
    def volume(self) -> Curve:
        """Rollouts that were generated and judged, over learner steps.

        Those that a filter dropped or a synchronisation cleared count, those of an evaluation do
        not. Of a run that has not counted them: groups that replay has accepted or refused, by G.
        """
        if found := self.curve("total/rollouts"):
            return curve([found.x[0] - 1, *found.x], [0.0, *found.y])
        size = float(self.setting("rollout.group_size", 8))
        pairs = [(line[STEP], size * _groups(line)) for line in self.lines]
        if not any(groups for _, groups in pairs):
            return curve([], [])
        steps, groups = zip(*pairs, strict=True)
        begin = [min(steps) - 1.0]
        return curve([*begin, *steps], [0.0, *np.cumsum(groups)])

    @cached_property
    def stages(self) -> tuple[StageMark, ...]:
        """Where its stages begin; none of a run that has none."""
        try:
            ended = json.loads((self.folder / STAGES).read_text())
        except FileNotFoundError:
            ended = []
        names = [str(one["name"]) for one in ended]
        starts = [0, *(int(one["step"]) for one in ended)]
        number = 0
        while (name := self.settings.get(f"stages.{number}.name")) is not None:
            names = [*names, str(name)] if number >= len(names) else names
            number += 1
        return tuple(
            StageMark(step=step, name=name) for step, name in zip(starts, names, strict=False)
        )

    @cached_property
    def resets(self) -> tuple[int, ...]:
        """Learner steps at which the reference was set anew."""
        found = self.curve("reference/resets")
        return tuple(int(step) for step in found.x[found.y > 0])

    @cached_property
    def answers(self) -> tuple[Answered, ...]:
        """What its evaluations have kept of each answer, in the order of learner steps."""
        return tuple(answered_at(self.folder))

    def kept(self, of: str) -> tuple[Answered, ...]:
        """Give what evaluations of a set have kept, in their order: those of the run, or, where it
        made none, those of `oapl eval`."""
        found = tuple(one for one in self.answers if one.of == of)
        return tuple(one for one in found if one.step >= 0) or found

    def scored(self, measure: str, of: str, last: bool = True) -> tuple[float, float] | None:
        """Give a measure of the last or first evaluation of a set, and its standard error.

        Args:
            measure: As of `evaluated`.
            of: The set.
            last: Not the first.

        Returns:
            None where it was not measured; an error of NaN where that was not.
        """
        for one in reversed(self.evaluations) if last else self.evaluations:
            for name, value in one.figures.items():
                if value is not None and is_measure(name, measure, of):
                    error = one.figures.get(name + SE)
                    return float(value), float("nan") if error is None else float(error)
        return None


def is_measure(name: str, measure: str, of: str | None = None) -> bool:
    """Whether a metric is that measure of an evaluation.

    Args:
        name: `eval/SET/MEASURE`.
        measure: As of `Run.evaluated`.
        of: A set, or a category as `SET/CATEGORY`; None: of any set.
    """
    where, what = _parts(name)
    head = measure.removesuffix("n")
    is_same = what == measure or (head.endswith("@") and what.startswith(head))
    is_there = "/" not in where if of is None else where == of
    return is_same and is_there and not what.endswith(SE)


def _parts(name: str) -> tuple[str, str]:
    """Set, or set and category, and measure of an evaluation's metric."""
    where, _, what = name.removeprefix("eval/").rpartition("/")
    return where, what


def _groups(line: Row) -> float:
    refused = sum(
        value or 0.0 for name, value in line.items() if name.startswith("replay/refused_")
    ) - (line.get("replay/refused_tokens") or 0.0)
    return (line.get("replay/accepted") or 0.0) + refused


def _merged(rows: Iterator[Row]) -> Iterator[Evaluation]:
    """Evaluations; sets that were logged apart at one step are one."""
    held: dict[int, tuple[float, dict[str, float]]] = {}
    for row in rows:
        figures = {
            name: value
            for name, value in row.items()
            if name.startswith("eval/") and name.count("/") >= 2
        }
        at, found = held.setdefault(int(row[STEP]), (float(row.get(CLOCK) or 0.0), {}))
        found.update(figures)
        held[int(row[STEP])] = (at, found)
    for step in sorted(held):
        at, found = held[step]
        yield Evaluation(step=step, at=at, figures=found)


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        dotted = f"{before}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{dotted}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for number, one in enumerate(value):
                yield from _flat(one, f"{dotted}.{number}.")
        else:
            yield dotted, value

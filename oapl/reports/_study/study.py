"""Several runs side by side: those that differ only in seeds are one series.

Invariants: a run is in one series; a series is called by the settings in which it differs from the
others, and keeps its place, and so its colour, in every figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oapl.errors import InputError
from oapl.reports._study.curves import Band, Curve, over
from oapl.reports._study.run import Run

UNTOLD = ("run.name", "run.dir", "data.date")
SEED = ".seed"
"""Ends the key of the run's seed, and of those of data that are made for it."""
"""Settings that tell no series from another."""
UNTOLD_SECTIONS = ("tracking.", "checkpoint.")
MOST_TOLD = 3
"""Settings in a series' name."""
NO_SETTING = "-"
OBJECTIVE = "objective.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Runs that differ in their seed alone.

    Attributes:
        name: Told from the others.
        label: The same in a legend; empty where there are no others.
        place: Among the series, from 0; gives the colour.
        runs: At least one.
    """

    name: str
    label: str
    place: int
    runs: tuple[Run, ...]

    def band(self, of: Callable[[Run], Curve]) -> Band:
        """Put a curve of every run together; see `curves.over`."""
        return over([of(run) for run in self.runs])

    def metric(self, name: str) -> Band:
        """Put a metric of every run together."""
        return self.band(lambda run: run.curve(name))


class Study:
    """The runs of a report.

    Args:
        runs: At least one.

    Attributes:
        series: In the order of their first runs.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        kinds: dict[tuple[Any, ...], list[Run]] = {}
        for run in runs:
            kinds.setdefault(_kind(run), []).append(run)
        groups = list(kinds.values())
        names = _names(groups)
        self.series = tuple(
            Series(
                name=name,
                label=name if len(groups) > 1 else "",
                place=place,
                runs=tuple(group),
            )
            for place, (name, group) in enumerate(zip(names, groups, strict=True))
        )

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Study:
        """Read run folders.

        Raises:
            InputError: One holds no run, or is named twice.
        """
        places = [folder.absolute().resolve() for folder in folders]
        for number, place in enumerate(places):
            if place in places[:number]:
                raise InputError(f"{folders[number]} is named twice; name each run once")
        return cls([Run(folder) for folder in folders])

    @property
    def sets(self) -> tuple[str, ...]:
        """Evaluation sets of all runs."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.sets))

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the evaluation sets of all runs, `SET/CATEGORY`."""
        found = dict.fromkeys(place for run in self.runs for place in run.places)
        return tuple(place for place in found if "/" in place)

    @property
    def firsts(self) -> tuple[tuple[Series, Run], ...]:
        """The first run of each series: for what can only be seen of one run."""
        return tuple((series, series.runs[0]) for series in self.series)

    def names(self) -> frozenset[str]:
        """Of all metrics of learner steps."""
        return frozenset(name for run in self.runs for name in run.names)


def _told(run: Run) -> Mapping[str, str]:
    """The settings that may tell a series, paths as seen from the run's own folder."""
    own = (str(run.folder.absolute()), f"{run.setting('run.dir')}/{run.setting('run.name')}")
    found = {}
    for key, value in run.settings.items():
        if key in UNTOLD or key.startswith(UNTOLD_SECTIONS) or key.endswith(SEED):
            continue
        text = str(value)
        for folder in own:
            text = text.replace(folder, "RUN")
        found[key] = text
    return found


def _kind(run: Run) -> tuple[Any, ...]:
    told = _told(run)
    return tuple(sorted(told.items())) if told else (run.name,)


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Of each series: the settings in which it differs, or its first run's name."""
    if len(groups) == 1:
        return [_name_of(groups[0])]
    told = [_told(group[0]) for group in groups]
    keys = _differing(told)
    plain = [key for key in keys if key == OBJECTIVE or not key.startswith("objective.")]
    for tried in (plain, keys):  # options of an objective follow from its name, mostly
        named = [_short(one, tried) for one in told]
        if 0 < len(tried) <= MOST_TOLD and len(set(named)) == len(named):
            return named
    names = [_name_of(group) for group in groups]
    return names if len(set(names)) == len(names) else [f"{n} ({i})" for i, n in enumerate(names)]


def _name_of(runs: Iterable[Run]) -> str:
    """The beginning that the names of its runs have in common, else that of the first."""
    names = [run.name for run in runs]
    if len(names) == 1:
        return names[0]
    start = names[0]
    for name in names[1:]:
        while not name.startswith(start):
            start = start[:-1]
    return start.rstrip("-_. ").removesuffix("seed").rstrip("-_. ") or names[0]


def _short(told: Mapping[str, str], keys: Sequence[str]) -> str:
    """`grpo · interval 16`: the last word of each key, where that is clear."""
    lasts = [key.rpartition(".")[2] for key in keys]
    parts = []
    for key, last in zip(keys, lasts, strict=True):
        word = last if lasts.count(last) == 1 and last != "name" else key
        value = told.get(key, NO_SETTING)
        parts.append(value if key == OBJECTIVE else f"{word} {value}")
    return " · ".join(parts)


def differing(series: Sequence[Series]) -> list[str]:
    """List the settings in which series differ, by dotted key; none of a single one."""
    return _differing([_told(one.runs[0]) for one in series])


def _differing(told: Sequence[Mapping[str, str]]) -> list[str]:
    keys = dict.fromkeys(key for one in told for key in one)
    return [key for key in keys if len({one.get(key, NO_SETTING) for one in told}) > 1]

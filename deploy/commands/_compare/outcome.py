"""Both sides compared: differences by set and measure, and over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from deploy.commands._compare.over_seeds import OverSeeds, over_seeds
from deploy.commands._compare.sides import (
    Asked,
    Run,
    SetAnswers,
    Values,
    common_sets,
    mean_over,
)
from oapl.comparison.many import adjusted
from oapl.comparison.mcnemar import Discordant, discordant
from oapl.comparison.paired import Difference, difference, paired
from oapl.comparison.seeds import FEWEST_SEEDS
from oapl.errors import InputError
from oapl.evaluation.per_problem import NUMBERS, Number, number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The outcome.

    Attributes:
        differences: By set and measure.
        seeds: Where a side has several runs.
        notes: What a reader should know.
    """

    differences: tuple[Difference, ...]
    seeds: OverSeeds | None = None
    notes: tuple[str, ...] = field(default=())


def compared(a: Sequence[Run], b: Sequence[Run], asked: Asked) -> Compared:
    """Compare two sides.

    Args:
        a, b: The runs of each, one per seed.
        asked: What to compare.

    Raises:
        InputError: They have nothing in common, or not what is asked for.
    """
    pairs = common_sets(a, b, asked.sets)
    measures = asked.measures or _scores(a, b, pairs)
    found = [_difference(a, b, pair, measure, asked) for pair in pairs for measure in measures]
    if len(found) > 1:
        ps = adjusted([one.p for one in found])
        found = [replace(one, adjusted_p=p) for one, p in zip(found, ps, strict=True)]
    seeds = None
    if max(len(a), len(b)) > 1:
        seeds = over_seeds(a, b, pairs, measures[0], asked)
    return Compared(
        differences=tuple(found), seeds=seeds, notes=tuple(_notes(a, b, pairs, found, seeds))
    )


def _scores(
    a: Sequence[Run], b: Sequence[Run], pairs: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """The scores that every set of both sides has."""
    sets = [run.sets[name] for of_a, of_b in pairs for run, name in _named(a, b, of_a, of_b)]
    found = tuple(
        measure
        for measure in ("mean", "greedy")
        if all(one.values(NUMBERS[measure]) for one in sets)
    )
    if not found:
        raise InputError(
            "one side has samples and the other only greedy answers; compare what both have, by "
            "--measure right"
        )
    return found


def _named(a: Sequence[Run], b: Sequence[Run], of_a: str, of_b: str) -> list[tuple[Run, str]]:
    return [*((run, of_a) for run in a), *((run, of_b) for run in b)]


def _difference(
    a: Sequence[Run], b: Sequence[Run], pair: tuple[str, str], measure: str, asked: Asked
) -> Difference:
    number = number_of(measure)
    if number is None:
        known = ", ".join((*NUMBERS, "pass@K"))
        raise InputError(f"--measure {measure}: must be one of {known}")
    values = partial(_values, number=number, threshold=asked.threshold)
    before, after = mean_over(a, pair[0], values), mean_over(b, pair[1], values)
    pairs = paired(before, after)
    name = pair[0] if pair[0] == pair[1] else f"{pair[0]} / {pair[1]}"
    if not len(pairs.before):
        raise InputError(
            f"nothing in common: of set {name} A has {measure} of {len(before)} problems and B of "
            f"{len(after)}, none of them the same; evaluate both on the same problems"
        )
    coins = None
    if measure == "greedy" and len(a) == len(b) == 1:
        coins = _coins(a[0].sets[pair[0]], b[0].sets[pair[1]], asked.threshold)
    return difference(name, measure, pairs, discordant=coins, draws=asked.draws, seed=asked.seed)


def _values(one: SetAnswers, *, number: Number, threshold: float | None) -> Values:
    return one.values(number, threshold)


def _coins(a: SetAnswers, b: SetAnswers, threshold: float | None) -> Discordant | None:
    """Problems that one side alone answers rightly; None where rewards say more than right."""
    before, after = a.values(NUMBERS["greedy"]), b.values(NUMBERS["greedy"])
    pairs = paired(before, after)
    if len(np.unique(np.concatenate([pairs.before, pairs.after]))) > 2:
        return None
    least = [one.made.protocol.threshold if threshold is None else threshold for one in (a, b)]
    return discordant(pairs.before >= least[0], pairs.after >= least[1])


def _notes(
    a: Sequence[Run],
    b: Sequence[Run],
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Difference],
    seeds: OverSeeds | None,
) -> list[str]:
    notes = []
    for of_a, of_b in pairs:
        said = {str(run.sets[name].made.protocol) for run, name in _named(a, b, of_a, of_b)}
        if len(said) > 1:
            notes.append(f"{of_a}: not all were answered alike: {'; '.join(sorted(said))}")
    for name, both in _unpaired(found).items():
        notes.append(f"{name}: left out are problems of one side alone, A {both[0]}, B {both[1]}")
    lone = {
        side: [name for name in runs[0].sets if name not in {pair[place] for pair in pairs}]
        for place, (side, runs) in enumerate((("A", a), ("B", b)))
    }
    notes += [
        f"sets of {side} that are not compared: {', '.join(names)}"
        for side, names in lone.items()
        if names
    ]
    if seeds is not None and seeds.is_thin:
        notes.append(
            f"warning: {seeds.runs[0]} and {seeds.runs[1]} runs; below {FEWEST_SEEDS} of each the "
            "spread over seeds is hardly known, and the interval of the interquartile mean is too "
            "short"
        )
    if seeds is not None:
        notes.append("intervals and p by set are over problems, of these very runs")
    return notes


def _unpaired(found: Sequence[Difference]) -> Mapping[str, tuple[int, int]]:
    return {
        one.name: (one.only_before, one.only_after)
        for one in found
        if one.only_before or one.only_after
    }

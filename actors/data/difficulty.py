"""How hard a problem is: its pass rate, a number from 0 to 1, in the column `pass_rate`.

The column is the source's own, or is filled from a file of labels (`oapl.groups_file.pass_rates`).
A source may ask for the problems of an interval, and for the easy ones first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.data.messages import SHOWN
from actors.data.problems import Problem
from oapl.config.sections import DataSource
from oapl.errors import InputError
from oapl.groups_file import pass_rates

COLUMN = "pass_rate"
ALL = (0.0, 1.0)


def chosen(source: DataSource, problems: list[Problem]) -> list[Problem]:
    """Label problems, and choose those that the source asks for.

    Args:
        source: Names the labels and the interval.
        problems: All that it has, in their order.

    Raises:
        InputError: A label is none, or no problem has one that is wanted.
    """
    if source.labels:
        problems = _labelled(source, problems)
    if source.pass_rate == ALL and not source.easy_first:
        return problems
    low, high = source.pass_rate
    rates = [rate_of(problem.reference, problem.place) for problem in problems]
    found = [rate for rate in rates if rate is not None]
    if not found:
        raise InputError(
            f"source {source.name!r}: none of its {len(problems)} rows has a pass rate (column "
            f"{COLUMN!r}); name a file of them as `labels`, as oapl eval and oapl generate write "
            'it, or the column that holds them: columns = { pass_rate = "NAME" }'
        )
    pairs = zip(problems, rates, strict=True)
    kept = [problem for problem, rate in pairs if rate is not None and low <= rate <= high]
    if not kept:
        raise InputError(
            f"source {source.name!r}: pass_rate = [{low:g}, {high:g}]: none of its {len(found)} "
            f"rows with a pass rate lies within; they go from {min(found):g} to {max(found):g}"
        )
    return kept


def rate_of(reference: Mapping[str, Any], place: str) -> float | None:
    """Read the pass rate of a row; None where it has none.

    Args:
        reference: Its columns.
        place: Of the row, for errors.

    Raises:
        InputError: It is no number from 0 to 1.
    """
    value = reference.get(COLUMN)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        rate = math.inf if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rate = math.inf
    if math.isnan(rate):
        return None
    if not 0 <= rate <= 1:
        raise InputError(
            f"{place}: {COLUMN} is {repr(value)[:SHOWN]}; a pass rate is a number from 0 to 1, "
            "like 0.25"
        )
    return rate


def _labelled(source: DataSource, problems: list[Problem]) -> list[Problem]:
    """Fill the column from the source's labels; a row that they do not know has none."""
    rates = pass_rates.read(Path(source.labels))
    made = [
        dataclasses.replace(
            problem,
            reference={**problem.reference, COLUMN: rates.get(pass_rates.digest(problem.question))},
        )
        for problem in problems
    ]
    if all(problem.reference[COLUMN] is None for problem in made):
        raise InputError(
            f"source {source.name!r}: labels = {source.labels!r}: knows none of its {len(made)} "
            "questions; name the file that was written for this source's rows"
        )
    return made

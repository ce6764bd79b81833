"""What a file of this folder declares: how a set is measured.

    def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:

gives figures by name, without the set's. A figure that cannot be told is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol as Interface

import numpy as np

from oapl.comparison import SE
from oapl.config.kinds import Kind
from oapl.evaluation.per_problem import Number
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


class MeasureFile(Interface):
    """A file of `oapl/evaluation/measures/`."""

    def measure(self, problems: Sequence[Problem], protocol: Protocol) -> Metrics:
        """Figures of a set by name, `mean@8`; what cannot be told is left out.

        Args:
            problems: Of the set.
            protocol: How they were answered, and what counts as right.
        """


MEASURES: Kind[MeasureFile] = Kind("oapl.evaluation.measures", MeasureFile)


def over_problems(
    name: str, number: Number, problems: Iterable[Problem], protocol: Protocol
) -> Metrics:
    """Average a number per problem, with its standard error under the name + `_se`.

    Args:
        name: Of the measure.
        number: Of a problem; those that have none are left out.
        problems: Of the set.
        protocol: Of the set.
    """
    values = [value for p in problems if (value := number(p, protocol)) is not None]
    if not values:
        return {}
    mean, error = mean_and_error(values)
    return {name: mean} | ({} if math.isnan(error) else {name + SE: error})


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over problems, and its standard error s / sqrt(P) with s^2 over P - 1.

    With one problem the error is not known: NaN.
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()), math.nan
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers)))

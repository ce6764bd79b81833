"""Before a run: the smallest difference that so many problems, answered so often, can show.

The variance of a paired mean difference over P problems with k samples each is
(omega^2 + 2 sigma^2 / k) / P: sigma^2 is the variance of one answer to a problem, omega^2 that of
the true difference from problem to problem. More samples shrink the first part alone. A difference
is shown where a two-sided test at 5 % finds it in 80 % of the repetitions: it is then 2.80 standard
errors large.

Source: Miller 2024, "Adding error bars to evals" (arXiv 2411.00640, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

POWER, LEVEL = 0.8, 0.05
CORRELATION = 0.5
"""Between the rates at which two models solve the problems: a guess between strangers, which is
careful for a model before and after its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the rewards of a model spread over a set of problems.

    Attributes:
        within: Variance of one answer to a problem, mean over problems; p (1 - p) for a problem
            solved at rate p.
        between: Variance of the problems' own means.
    """

    within: float
    between: float


EVEN = Spread(within=1 / 6, between=1 / 12)
"""Problems solved at rates spread evenly from never to always."""


def spread_of(rewards: Sequence[np.ndarray]) -> Spread:
    """Estimate the spread from an evaluation.

    Args:
        rewards: Per problem float [n], its samples' rewards.

    Returns:
        From problems with one sample alone nothing is known of `within`: all is `between`, which is
        then the variance of one answer, and right for one sample.
    """
    means = np.array([values.mean() for values in rewards], np.float64)
    several = [values for values in rewards if len(values) > 1]
    within = float(np.mean([values.var(ddof=1) for values in several])) if several else 0.0
    noise = within * float(np.mean([1 / len(values) for values in rewards]))
    total = float(means.var(ddof=1)) if len(means) > 1 else 0.0
    return Spread(within=within, between=max(total - noise, 0.0))


def smallest_difference(
    problems: int,
    samples: int,
    spread: Spread = EVEN,
    *,
    correlation: float = CORRELATION,
    power: float = POWER,
    level: float = LEVEL,
) -> float:
    """Give the smallest mean difference that will be shown.

    Args:
        problems: P, answered by both models.
        samples: k, answers of each model to each.
        spread: Of the rewards.
        correlation: Between both models' means per problem; omega^2 is
            2 `between` (1 - correlation).
        power: Share of repetitions in which it shall be found.
        level: Of the two-sided test.

    Returns:
        In units of the reward.

    Raises:
        ValueError: There are no problems, or no samples.
    """
    if problems < 1 or samples < 1:
        raise ValueError(f"{problems} problems x {samples} samples show nothing; give one of each")
    heterogeneity = 2 * spread.between * (1 - correlation)
    variance = (heterogeneity + 2 * spread.within / samples) / problems
    return errors_shown(power, level) * math.sqrt(variance)


def errors_shown(power: float = POWER, level: float = LEVEL) -> float:
    """Give how many standard errors a difference must be large to be shown; 2.80.

    Args:
        power, level: As of `smallest_difference`.
    """
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)

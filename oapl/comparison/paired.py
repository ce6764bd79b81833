"""Two evaluations of the same problems: the difference, how sure it is, and whether it is chance.

Pairs are by problem; a problem that only one side has is counted and left out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from oapl.comparison.bootstrap import DRAWS, interval, resampled_means
from oapl.comparison.mcnemar import Discordant
from oapl.comparison.power import errors_shown
from oapl.comparison.sign_flips import sign_flip_p

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """One measure of the problems that two evaluations have in common.

    Attributes:
        before, after: float64 [P], in the same order.
        only_before, only_after: Problems that one side alone has.
    """

    before: np.ndarray
    after: np.ndarray
    only_before: int = 0
    only_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One measure on one set, of two models.

    Attributes:
        name: Of the set.
        measure: What was measured.
        pairs: Problems that both have.
        before, after: Means over these.
        low, high: Ends of the 95 % interval of after minus before.
        p: Two-sided, of the sign-flip test; for right and wrong alone McNemar's.
        shows: Smallest difference that a repetition would show, by the spread found here.
        only_before, only_after: See `Pairs`.
        discordant: Problems that one side solves alone, where each has one answer.
        adjusted_p: See `oapl.comparison.many`; None where there was one test.
    """

    name: str
    measure: str
    pairs: int
    before: float
    after: float
    low: float
    high: float
    p: float
    shows: float
    only_before: int = 0
    only_after: int = 0
    discordant: Discordant | None = None
    adjusted_p: float | None = None

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        """The change as a share of before; None where that is 0."""
        return self.change / self.before if self.before else None

    @property
    def final_p(self) -> float:
        """The p that counts: adjusted where there were several tests."""
        return self.p if self.adjusted_p is None else self.adjusted_p


def paired(before: Mapping[K, float], after: Mapping[K, float]) -> Pairs:
    """Pair two evaluations by problem.

    Args:
        before, after: A number per problem.
    """
    common = [key for key in before if key in after]
    return Pairs(
        before=np.array([before[key] for key in common], np.float64),
        after=np.array([after[key] for key in common], np.float64),
        only_before=len(before) - len(common),
        only_after=len(after) - len(common),
    )


def difference(
    name: str,
    measure: str,
    pairs: Pairs,
    *,
    discordant: Discordant | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Put two evaluations of a set side by side.

    Args:
        name: Of the set; what is drawn for it depends on name, measure and seed alone, not on what
            else is compared.
        measure: What was measured.
        pairs: At least one.
        discordant: Where each side has one answer, right or wrong: p is then McNemar's.
        draws: Resamples, and signs.
        seed: Of both.

    Raises:
        ValueError: There is no pair.
    """
    if not len(pairs.before):
        raise ValueError(f"{name}: no problem in common; there is nothing to compare")
    chance = np.random.default_rng([seed, zlib.crc32(f"{name}/{measure}".encode())])
    differences = pairs.after - pairs.before
    low, high = interval(resampled_means(differences, draws, chance))
    return Difference(
        name=name,
        measure=measure,
        pairs=len(differences),
        before=float(pairs.before.mean()),
        after=float(pairs.after.mean()),
        low=low,
        high=high,
        p=discordant.p if discordant else sign_flip_p(differences, draws, chance),
        shows=_shows(differences),
        only_before=pairs.only_before,
        only_after=pairs.only_after,
        discordant=discordant,
    )


def _shows(differences: np.ndarray) -> float:
    """By the differences' own spread; NaN where one problem has none."""
    if len(differences) < 2:
        return math.nan
    return errors_shown() * float(differences.std(ddof=1)) / math.sqrt(len(differences))

"""The statistics of `oapl compare` beside SciPy's, on drawn cases.

What is computed exactly must agree to rounding; where both sides draw, the ends of the intervals
must lie within the noise of their draws. SciPy is none of the project's
packages (`deploy/requirements/agreement.txt` has it): without it nothing is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from oapl.comparison.bootstrap import interval, resampled_means
from oapl.comparison.many import adjusted
from oapl.comparison.mcnemar import Discordant
from oapl.comparison.power import errors_shown
from oapl.comparison.seeds import interquartile_mean, resampled_iqms
from oapl.comparison.sign_flips import sign_flip_p

EXACT = 1e-12
NOISE = 0.03
"""Of an interval's width: ends of 95 % by 20,000 draws move by about 1 %."""
CASES = 40


@dataclass(frozen=True, kw_only=True)
class Row:
    """How far a statistic is from SciPy's, at most, and how far it may be."""

    name: str
    theirs: str
    apart: float
    bar: float


def main() -> int:
    console = Console(width=120, highlight=False)
    try:
        from scipy import stats
    except ImportError:
        console.print("skipped: scipy is not installed here; pip install scipy in an environment")
        return 0
    rows = [row(stats) for row in ROWS]
    table = Table(title=f"statistics beside SciPy's, {CASES} drawn cases each")
    for heading in ("ours", "SciPy's", "largest difference", "bar"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.name, row.theirs, f"{row.apart:.2g}", f"{row.bar:.2g}")
    console.print(table)
    return int(any(row.apart > row.bar for row in rows))


def chances() -> Iterator[np.random.Generator]:
    return (np.random.default_rng(seed) for seed in range(CASES))


def sign_flips(stats) -> Row:
    apart = 0.0
    for chance in chances():
        changes = chance.normal(0.3, 1.0, size=int(chance.integers(2, 11)))
        result = stats.permutation_test(
            (changes, np.zeros_like(changes)),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        )
        apart = max(apart, abs(result.pvalue - sign_flip_p(changes, 1, chance)))
    return Row(name="sign_flip_p", theirs="permutation_test(samples)", apart=apart, bar=EXACT)


def mcnemar(stats) -> Row:
    apart = 0.0
    for chance in chances():
        gained, lost = (int(n) for n in chance.integers(0, 60, size=2))
        if gained + lost:
            theirs = stats.binomtest(gained, gained + lost, 0.5).pvalue
            apart = max(apart, abs(theirs - Discordant(gained=gained, lost=lost).p))
    return Row(name="Discordant.p", theirs="binomtest", apart=apart, bar=EXACT)


def discoveries(stats) -> Row:
    apart = 0.0
    for chance in chances():
        ps = chance.uniform(size=int(chance.integers(1, 20))) ** 3
        theirs = stats.false_discovery_control(ps, method="bh")
        apart = max(apart, float(np.abs(theirs - adjusted(ps.tolist())).max()))
    return Row(name="adjusted", theirs="false_discovery_control", apart=apart, bar=EXACT)


def quartiles(stats) -> Row:
    apart = 0.0
    for chance in chances():
        scores = chance.uniform(size=tuple(chance.integers(1, 9, size=2)))
        theirs = stats.trim_mean(scores, 0.25, axis=None)
        apart = max(apart, abs(float(theirs) - interquartile_mean(scores)))
    return Row(name="interquartile_mean", theirs="trim_mean(0.25)", apart=apart, bar=EXACT)


def normal(stats) -> Row:
    theirs = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    return Row(name="errors_shown", theirs="norm.ppf", apart=abs(theirs - errors_shown()), bar=1e-9)


def means(stats) -> Row:
    def ours(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        return resampled_means(values, 20_000, chance)

    return _ends(stats, "resampled_means", ours, lambda x, axis: x.mean(axis=axis), 30)


def iqms(stats) -> Row:
    def ours(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        return resampled_iqms(values[:, None], 20_000, chance)

    def theirs(x: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(stats.trim_mean(x, 0.25, axis=axis))

    return _ends(stats, "resampled_iqms of one set", ours, theirs, 16)


def _ends(stats, name: str, ours: Callable, theirs: Callable, size: int) -> Row:
    apart = 0.0
    for chance in list(chances())[:8]:
        values = chance.normal(size=size)
        result = stats.bootstrap(
            (values,),
            theirs,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(chance.integers(2**32)),
        ).confidence_interval
        low, high = interval(ours(values, chance))
        width = result.high - result.low
        apart = max(apart, abs(low - result.low) / width, abs(high - result.high) / width)
    return Row(name=name, theirs="bootstrap(percentile), of its width", apart=apart, bar=NOISE)


ROWS = (sign_flips, mcnemar, discoveries, quartiles, normal, means, iqms)

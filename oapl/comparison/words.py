"""A difference in words: "+3.1 points, 95 % interval 0.4 to 5.8, p = 0.02"."""

from __future__ import annotations

from oapl.comparison.paired import Difference

LEVEL = 0.05
"""A difference is called one where p is at most this."""
LEAST_P = 0.001
"""Below, that is all that is said."""
POINTS = "points"


def figures(
    change: float, low: float, high: float, p: float | None = None, unit: str = POINTS
) -> str:
    """Say a difference with its interval.

    Args:
        change, low, high: In units of the measure; points are hundredths.
        p: Left out where None.
        unit: Of the measure.
    """
    scale, digits = scale_of(unit)
    shown = [f"{scale * value:.{digits}f}" for value in (low, high)]
    text = f"{scale * change:+.{digits}f} {unit}, 95 % interval {shown[0]} to {shown[1]}"
    return text if p is None else f"{text}, {p_told(p)}"


def verdict(found: Difference, unit: str = POINTS, names: tuple[str, str] = ("A", "B")) -> str:
    """Say what a comparison has shown.

    Args:
        found: Of one set.
        unit: Of its measure.
        names: Of the two sides, the first one subtracted from the second.
    """
    told = figures(found.change, found.low, found.high, found.p, unit)
    if found.adjusted_p is not None:
        told += f" ({p_told(found.adjusted_p)} among all tests)"
    if found.final_p <= LEVEL:
        return f"{names[1]} {'above' if found.change > 0 else 'below'} {names[0]}: {told}"
    scale, digits = scale_of(unit)
    bound = f"{scale * found.shows:.{digits}f} {unit}" if found.shows > 0 else ""
    could = f"; {found.pairs} problems like these show {bound} or more" if bound else ""
    return f"no difference shown: {told}{could}"


def p_told(p: float) -> str:
    """Say a p: two digits, and no less than what the draws can tell."""
    return f"p < {LEAST_P:g}" if p < LEAST_P else f"p = {p:.2g}"


def scale_of(unit: str) -> tuple[float, int]:
    """Give what a measure is multiplied by in this unit, and its digits behind the point."""
    return (100.0, 1) if unit == POINTS else (1.0, 1)


def smallest_told(least: float, problems: int, samples: int) -> str:
    """Say what a set can show before it is answered; see `oapl.comparison.power`.

    Args:
        least: The smallest difference, in units of the reward.
        problems, samples: Of the set, and of each problem.
    """
    answered = "1 answer" if samples == 1 else f"{samples} answers"
    return (
        f"differences of {100 * least:.1f} points or more ({problems} problems x {answered} of "
        "each model, power 80 % at the 5 % level)"
    )

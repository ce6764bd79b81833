"""Many tests at once: the more sets, the more of them differ by chance.

Source: Benjamini and Hochberg 1995, step-up; holds for independent tests and for those that lean
the same way, as sets answered by one model do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def adjusted(ps: Sequence[float]) -> list[float]:
    """Give each p as the smallest false-discovery rate at which its set would count.

    `min over j >= i of p_(j) m / j`, p_(j) the j-th smallest of m.

    Args:
        ps: One per test.

    Returns:
        In the same order; each at least its p, and at most 1.
    """
    values = np.asarray(ps, np.float64)
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    smallest = np.minimum.accumulate(scaled[::-1])[::-1]
    found = np.empty(len(values))
    found[order] = np.minimum(smallest, 1.0)
    return [float(p) for p in found]

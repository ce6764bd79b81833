"""What cards can do at most, for the share of it that a learner uses (`perf/mfu`).

Dense matrix products in 16 bits with sums in 32, as the makers state them. A card that is not
listed has no share: `cluster.peak_tflops` says it then.
"""

from __future__ import annotations

import re

PEAKS = {
    r"B200": 2250e12,
    r"H200|H100(?!.*(PCIe|NVL))|H800": 989e12,
    r"H100.*PCIe": 756e12,
    r"H100.*NVL": 835e12,
    r"H20\b": 148e12,
    r"A100|A800": 312e12,
    r"L40S": 362e12,
    r"A10G?\b": 125e12,
    r"V100": 125e12,
    r"RTX 4090": 165e12,
}
"""Operations per second by a pattern of the card's name; a multiplication with its addition is two.

Source: NVIDIA's data sheets, without sparsity.
"""


def peak_of(card: str) -> float | None:
    """Look up a card's most operations per second; None where it is not listed.

    Args:
        card: Its name, as torch tells it.
    """
    return next((peak for form, peak in PEAKS.items() if re.search(form, card)), None)

"""pass@k of one problem.

Source: Chen et al. 2021 (arXiv 2107.03374, section 2.1), as in OAPL footnote 1.
"""

from __future__ import annotations

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """Estimate without bias that one of k samples is right: 1 - C(n - c, k) / C(n, k).

    As the product 1 - prod_{i = n - c + 1}^{n} (1 - k / i): no large binomials; exactly 0 for
    c = 0 and exactly 1 when fewer than k samples are wrong (so for k = n with c > 0).

    Args:
        n: Samples of the problem.
        c: Right ones among them.
        k: Tries.

    Raises:
        ValueError: Not 1 <= k <= n or not 0 <= c <= n.

    Source: Chen et al. 2021 (arXiv 2107.03374), section 2.1.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} samples; k must lie in 1 to {n}")
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} samples cannot be right")
    if c == 0:
        return 0.0
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

"""Where a period's last groups end: moved to few engines, while the others go on.

Invariant: what is moved fits on those that stay behind, as whole groups.
"""

from __future__ import annotations

import math

FEW = 8
"""One engine of so many may stay behind, and one at the least."""


def most_behind(engines: int) -> int:
    """Count the engines that may stay behind; one that is alone does not.

    Args:
        engines: That collect.
    """
    return max(1, engines // FEW) if engines > 1 else 0


def behind(groups: int, engines: int, per_engine: float) -> int:
    """Count the engines that a period's last groups need.

    Args:
        groups: In flight, or yet to be handed out.
        engines: That collect.
        per_engine: Groups that one may hold.

    Returns:
        0 where they would be too many.
    """
    needed = math.ceil(groups / per_engine)
    return needed if needed <= most_behind(engines) else 0

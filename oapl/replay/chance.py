"""Orders by chance that a resumed run repeats, with no generator whose state would be kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def seeded_order(ids: Iterable[str], *key: object) -> list[str]:
    """Put ids into an order that follows from the key and from them alone, however they came.

    Each order of them is equally likely over the keys, and so is each choice of the first few.

    Args:
        ids: All different.
        key: The seed, and what sets this order apart from others.
    """
    prefix = "|".join(map(str, key))
    return sorted(ids, key=lambda id: hashlib.sha256(f"{prefix}|{id}".encode()).digest())

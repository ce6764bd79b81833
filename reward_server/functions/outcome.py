"""What a user's reward function gave: a number, a table with a score, a list of one."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from typing import Any

MAX_PARTS = 30
_PART = re.compile(r"[A-Za-z0-9_.:-]{1,60}")


def read(result: Any, *, is_batch: bool) -> tuple[float, dict[str, float]]:
    """Read the reward, and what else of numbers came with it.

    Args:
        result: What the function returned.
        is_batch: It was shown lists of one, so a list of one is due.

    Returns:
        The reward and its parts.

    Raises:
        TypeError: It is no reward.
    """
    one = _only(result) if is_batch else result
    if isinstance(one, Mapping):
        name = next((key for key in ("score", "reward") if key in one), None)
        rest = {key: part for key, part in one.items() if key != name and _is_part(key, part)}
        parts = {str(key): float(part) for key, part in list(rest.items())[:MAX_PARTS]}
        return _number(one.get(name), one), parts
    return _number(one, result), {}


def _only(result: Any) -> Any:
    """The one entry of a list; what is no list stands for itself."""
    if isinstance(result, Mapping | str) or not hasattr(result, "__len__"):
        return result
    if len(result) != 1:
        raise TypeError(f"the reward function gave {len(result)} rewards for one response")
    return result[0]


def _number(value: Any, shown: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"the reward function gave {shown!r:.80}; it must give a number, or a table with "
            "a number as `score`"
        ) from None


def _is_part(key: Any, part: Any) -> bool:
    return isinstance(part, numbers.Real) and bool(_PART.fullmatch(str(key)))

"""Drops questions whose answers are, on average, too short (easy ones) or too long.

The mean is over the answers that are still there: a filter in front that takes answers out changes
it.

Source: PCL-Reasoner-V1.5, section 3.3 (data), which drops questions below 32K tokens.
"""

from __future__ import annotations

from deploy.filters.base import ByGroup, Filter, lengths
from oapl.config.fields import NonNegativeInt, section
from oapl.errors import InputError
from oapl.groups_file import StoredGroup


@section
class Config:
    """Options of `mean_length`."""

    min_tokens: NonNegativeInt = 0
    """Smallest mean of response tokens of a question that stays."""
    max_tokens: NonNegativeInt = 0
    """Largest mean of response tokens of a question that stays; 0 is no limit."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`.

    Raises:
        InputError: No limit is set, or no length lies between the two.
    """
    low, high = config.min_tokens, config.max_tokens
    if not (low or high) or 0 < high < low:
        raise InputError(
            f"mean_length: min_tokens = {low}, max_tokens = {high}; set one of them, or max_tokens "
            "at least as large as min_tokens"
        )

    def fits(group: StoredGroup) -> bool:
        mean = float(lengths(group).mean())
        return low <= mean and (not high or mean <= high)

    return ByGroup(fits)

"""Drops right answers longer than a limit, and keeps wrong ones of any length.

Without it, long answers that are right teach length.

Source: PCL-Reasoner-V1.5, section 3.3 (verification and filtering), 48K tokens.
"""

from __future__ import annotations

from deploy.filters.base import ByRollout, Filter, lengths
from oapl.config.fields import Count, section


@section
class Config:
    """Options of `positive_length`."""

    max_tokens: Count
    """Response tokens of the longest right answer that stays."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return ByRollout(
        lambda group: (lengths(group) <= config.max_tokens) | ~(group.rewards > threshold)
    )

"""Drops answers longer than a limit, right or wrong.

Source: PCL-Reasoner-V1.5, section 3.2 (SFT data), 32K tokens.
"""

from __future__ import annotations

from deploy.filters.base import ByRollout, Filter, lengths
from oapl.config.fields import Count, section


@section
class Config:
    """Options of `answer_length`."""

    max_tokens: Count
    """Response tokens of the longest answer that stays."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return ByRollout(lambda group: lengths(group) <= config.max_tokens)

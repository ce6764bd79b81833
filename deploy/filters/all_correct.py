"""Drops questions to which every answer was right: they are too easy to learn from.

Source: PCL-Reasoner-V1.5, section 3.3 (data).
"""

from __future__ import annotations

from deploy.filters.base import ByGroup, Filter
from oapl.config.fields import section


@section
class Config:
    """Options of `all_correct`; it has none."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return ByGroup(lambda group: not bool((group.all_rewards > threshold).all()))

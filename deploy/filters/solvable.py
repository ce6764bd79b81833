"""Keeps questions to which at least one answer was right.

Source: OAPL, section 5.2.
"""

from __future__ import annotations

from deploy.filters.base import ByGroup, Filter
from oapl.config.fields import section


@section
class Config:
    """Options of `solvable`; it has none."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return ByGroup(lambda group: bool((group.all_rewards > threshold).any()))

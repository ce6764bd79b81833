"""Drops questions to which all answers were right, or all wrong: their advantage is zero.

Source: PCL-Reasoner-V1.5, section 3.3 (verification and filtering).
"""

from __future__ import annotations

from deploy.filters.base import ByGroup, Filter
from oapl.config.fields import section
from oapl.groups_file import StoredGroup


@section
class Config:
    """Options of `zero_variance`; it has none."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""

    def is_mixed(group: StoredGroup) -> bool:
        is_right = group.all_rewards > threshold
        return bool(is_right.any() and not is_right.all())

    return ByGroup(is_mixed)

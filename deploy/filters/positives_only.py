"""Keeps right answers alone, as imitation wants them.

Source: OAPL, section 5.2 (rejection sampling).
"""

from __future__ import annotations

from deploy.filters.base import ByRollout, Filter
from oapl.config.fields import section


@section
class Config:
    """Options of `positives_only`; it has none."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return ByRollout(lambda group: group.rewards > threshold)

"""Keeps the first group of each question: later ones with the same words are dropped.

Questions are told by the hash of their text, letter by letter; 100 bytes of memory or so for each.
The same question drawn in several epochs is one question.

Source: none.
"""

from __future__ import annotations

import hashlib

from deploy.filters.base import Choice, Filter, text_of, whole
from oapl.config.fields import section
from oapl.groups_file import StoredGroup

DIGEST_BYTES = 16


@section
class Config:
    """Options of `exact_duplicates`; it has none."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`."""
    return _ExactDuplicates()


class _ExactDuplicates:
    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def choose(self, group: StoredGroup) -> Choice:
        digest = hashlib.blake2b(text_of(group).encode(), digest_size=DIGEST_BYTES).digest()
        is_new = digest not in self._seen
        self._seen.add(digest)
        return whole(group, is_new)

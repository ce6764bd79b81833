"""Keeps questions that have a reference answer with which a judge agrees.

The judge spoke before: in a column of the source, or as a verifier of the run that generated the
answers.

Source: ProRL, section 2.3 (STEM data).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.filters.base import ByGroup, Filter
from oapl.config.fields import section
from oapl.errors import InputError
from oapl.groups_file import StoredGroup


@section
class Config:
    """Options of `ground_truth`."""

    answer: str = "answer"
    """Column with the reference answer, which must be there and not blank."""
    column: str = ""
    """Column with the judge's word on it."""
    agrees: tuple[str, ...] = ("true", "yes", "1", "1.0", "accepted")
    """What such a word is, as text in small letters, where the judge agrees."""
    verifier: str = ""
    """A verifier that must have accepted at least one answer, as it was generated."""
    sources: tuple[str, ...] = ()
    """Sources to look at; questions of others stay. Empty: all."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`.

    Raises:
        InputError: Neither `column` nor `verifier` is set.
    """
    if not (config.column or config.verifier):
        raise InputError(
            "ground_truth: nothing says whether a judge agrees; set column, to a column of the "
            "source, or verifier, to one of those that judged the answers"
        )

    def is_agreed(group: StoredGroup) -> bool:
        if config.sources and group.prompt.source not in config.sources:
            return True
        answer = group.prompt.reference.get(config.answer)
        if answer is None or not str(answer).strip():
            return False
        return _column_agrees(group, config) and _verifier_agrees(group, config)

    return ByGroup(is_agreed)


def _column_agrees(group: StoredGroup, config: Config) -> bool:
    if not config.column:
        return True
    word = _demand(config.column, group.prompt.reference, "column", group)
    return str(word).strip().lower() in config.agrees


def _verifier_agrees(group: StoredGroup, config: Config) -> bool:
    if not config.verifier:
        return True
    return "accepted" in [
        _demand(config.verifier, kinds, "verifier", group) for kinds in group.all_kinds
    ]


def _demand(name: str, there: Mapping[str, Any], what: str, group: StoredGroup) -> Any:
    if name not in there:
        raise InputError(
            f"ground_truth: {group.prompt.id} has no {what} {name!r}; there are "
            f"{', '.join(there) or 'none'}; name one of them, or set sources to those that have it"
        )
    return there[name]

"""What a filter file offers: options, and `build`, which makes the filter from them.

A filter looks at one stored group after the other and chooses which of its rollouts stay; a group
of which none stays is dropped. What it tells of a group beside that are findings: the overlap with
an evaluation set, the question that this one repeats.

A question's difficulty is that of its group *as generated* (`all_rewards`), whatever a filter took
out before: so `solvable`, `all_correct` and `zero_variance` may stand anywhere. Lengths are known
of the rollouts that are still there, so that `mean_length` belongs in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np

from oapl.config.kinds import Kind
from oapl.groups_file import StoredGroup

Finding = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What a filter makes of a group.

    Attributes:
        is_kept: bool [K], which of its rollouts stay.
        finding: What was found in it, plain values that JSON can hold; None for nothing.
    """

    is_kept: np.ndarray
    finding: Finding | None = None


class Filter(Protocol):
    """Chooses rollouts, group by group, in the order of the set."""

    def choose(self, group: StoredGroup) -> Choice:
        """Choose which of the group's rollouts stay.

        Raises:
            InputError: The group lacks what the filter looks at.
        """


class FilterFile(Protocol):
    """A file of `deploy/filters/`, or a module of the user's own."""

    Config: Annotated[type, "its options", "@section class Config: ..."]

    def build(self, config: Any, threshold: float) -> Filter:
        """The filter with these options; a rollout is right where its reward is above threshold."""


FILTERS: Kind[FilterFile] = Kind("deploy.filters", FilterFile)


def whole(group: StoredGroup, is_kept: bool, finding: Finding | None = None) -> Choice:
    """Keep all rollouts that are there, or none.

    Args:
        group: With K rollouts.
        is_kept: Whether they stay.
        finding: See `Choice`.
    """
    return Choice(is_kept=np.full(len(group.rollouts), is_kept), finding=finding)


def lengths(group: StoredGroup) -> np.ndarray:
    """Give the response tokens of each rollout that is there, int64 [K]."""
    return np.array([len(rollout.token_ids) for rollout in group.rollouts], np.int64)


def text_of(group: StoredGroup) -> str:
    """Give the user's own words, or the whole prompt where these are not known."""
    return group.prompt.question or group.prompt.text


class ByGroup:
    """A filter that keeps or drops whole groups by a rule.

    Args:
        rule: Whether a group stays.
    """

    def __init__(self, rule: Callable[[StoredGroup], bool]) -> None:
        self._rule = rule

    def choose(self, group: StoredGroup) -> Choice:
        """See `Filter.choose`."""
        return whole(group, self._rule(group))


class ByRollout:
    """A filter that keeps or drops single rollouts by a rule.

    Args:
        rule: Gives bool [K], which of a group's rollouts stay.
    """

    def __init__(self, rule: Callable[[StoredGroup], np.ndarray]) -> None:
        self._rule = rule

    def choose(self, group: StoredGroup) -> Choice:
        """See `Filter.choose`."""
        return Choice(is_kept=self._rule(group))

"""Answers that are still to come, of a kind that can be handed on before they are there.

A publication leaves the learner in chunks while engines already load the first ones: it travels as
promises. Whoever made a promise keeps it or breaks it with an error; nobody waits without a
deadline.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Promise(Protocol[T_co]):
    """Can be awaited where it was made, and asked for, also in another process."""

    def get(self, timeout_s: float) -> T_co:
        """Wait for the answer; blocks this thread.

        Args:
            timeout_s: Longest wait.

        Raises:
            DeadlineError: It did not come within `timeout_s`.
            Exception: What went wrong where it was made.
        """

    def __await__(self) -> Generator[Any, None, T_co]: ...


@dataclass(frozen=True, slots=True)
class Resolved(Generic[T]):
    """A promise whose answer is there from the start."""

    answer: T

    def get(self, timeout_s: float) -> T:
        """The answer, at once."""
        return self.answer

    def __await__(self) -> Generator[Any, None, T]:
        yield from ()
        return self.answer

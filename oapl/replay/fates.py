"""How draws have ended: one fate each, counted over the whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from oapl.records import FATES, Fate, FateKind, Prompt


class Fates:
    """The book of fates.

    Args:
        on_fate: Told of every fate as it falls.

    Attributes:
        first_failure: Cause of the first draw that failed here; empty while none has.
    """

    def __init__(self, on_fate: Callable[[Fate], None] | None = None) -> None:
        self.first_failure = ""
        self._on_fate = on_fate
        self._numbers: Counter[tuple[FateKind, str]] = Counter()

    def add(self, prompt: Prompt, kind: FateKind, detail: str, step: int) -> None:
        """Note how a draw ended.

        Args:
            prompt: The draw.
            kind: Its fate.
            detail: Filter or cause; empty where `kind` says it all.
            step: Learner steps made.
        """
        self._numbers[kind, detail] += 1
        if kind == "failed":
            self.first_failure = self.first_failure or detail
        if self._on_fate is not None:
            self._on_fate(
                Fate(id=prompt.id, attempt=prompt.attempt, kind=kind, detail=detail, step=step)
            )

    def by_kind(self) -> dict[str, int]:
        """Draws by fate; of a fate that befell none, 0."""
        numbers: dict[str, int] = dict.fromkeys(FATES, 0)
        for (kind, _), number in self._numbers.items():
            numbers[kind] += number
        return numbers

    def by_detail(self) -> dict[str, int]:
        """Fates with their details, `dropped:uniform`."""
        return {
            f"{kind}:{detail}" if detail else kind: number
            for (kind, detail), number in sorted(self._numbers.items())
        }

    def state(self) -> dict[tuple[FateKind, str], int]:
        """The numbers."""
        return dict(self._numbers)

    def restore(self, state: dict[tuple[FateKind, str], int]) -> None:
        """Go on from what `state` gave."""
        self._numbers = Counter(state)

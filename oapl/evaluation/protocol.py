"""How an evaluation set is answered and judged: what a table of figures must state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from oapl.records import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How the problems of a set are answered, and what counts as right.

    Attributes:
        name: Of the file that it was taken from; empty for none.
        num_samples: n, responses per problem.
        sampling: Of the samples.
        greedy: Whether each problem is answered once more at temperature 0.
        ks: k of pass@k.
        threshold: Smallest reward that counts as right.
        category: Column that names a problem's category; empty for none.
        reflection_words: A response with one of them reflects on itself.
    """

    name: str = ""
    num_samples: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    greedy: bool = True
    ks: tuple[int, ...] = (1, 8)
    threshold: float = 1.0
    category: str = ""
    reflection_words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In a line: `n 32, T 0.6, top-p 0.95, top-k 40, at most 129,024 tokens, and greedy`."""
        drawn = self.sampling
        parts = [self.name] if self.name else []
        if math.isnan(drawn.temperature):  # answers of an earlier build
            return ", ".join([*parts, f"n {self.num_samples}, drawn in a way that was not noted"])
        if self.num_samples:
            parts += [f"n {self.num_samples}", f"T {drawn.temperature:g}"]
            parts += [f"top-p {drawn.top_p:g}", f"top-k {drawn.top_k or 'off'}"]
        else:
            parts.append("greedy")
        parts.append(f"at most {drawn.max_tokens:,} tokens")
        if self.num_samples and self.greedy:
            parts.append("and greedy")
        if self.threshold != 1:
            parts.append(f"right from {self.threshold:g}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """A table that `from_json` reads back to an equal one."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> Protocol:
        """Read what `to_json` has made.

        Raises:
            TypeError: It is no such table.
        """
        lists = {name: tuple(table[name]) for name in ("ks", "reflection_words") if name in table}
        return cls(**{**table, **lists, "sampling": Sampling(**table.get("sampling", {}))})

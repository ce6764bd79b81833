"""The traces of a prompt become a stored group.

The file is read twice: first to count the traces of each prompt, then to put them together. Held in
memory are 16 bytes and a number for each prompt, and the groups of which traces are still to come:
little where the traces of a prompt lie near each other, all of the file where none do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.importing.columns import Refused
from deploy.importing.rendering import Renderer
from deploy.importing.traces import Trace
from oapl.errors import InputError
from oapl.groups_file import StoredGroup
from oapl.records import Prompt, Sampling

OF_A_GROUP = ("answer", "v_star")
"""What is known of a prompt, and must be the same for all its traces."""


@dataclass(slots=True)
class Skipped:
    """The traces that are left out.

    Attributes:
        is_allowed: Else the first one ends the import.
        counts: By reason.
        first: What was wrong with the first one of a reason.
    """

    is_allowed: bool
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def demand(self, refused: Refused) -> None:
        """Let a trace be left out.

        Raises:
            InputError: None may.
        """
        if not self.is_allowed:
            raise InputError(f"{refused} (--skip leaves out such lines, and counts them)")

    def add(self, refused: Refused, count: int = 1) -> None:
        """Leave traces out, and count them.

        Raises:
            InputError: None may be left out.
        """
        self.demand(refused)
        self.counts[refused.reason] += count
        self.first.setdefault(refused.reason, str(refused))


def counted(traces: Iterable[Trace | Refused], skipped: Skipped) -> Counter[bytes]:
    """Count the traces of each group; nothing is counted as skipped yet.

    Args:
        traces: Of the whole file.
        skipped: Says whether any may be.

    Raises:
        InputError: A trace is refused, and none may be skipped.
    """
    counts: Counter[bytes] = Counter()
    for found in traces:
        if isinstance(found, Refused):
            skipped.demand(found)
        else:
            counts[found.key] += 1
    return counts


def grouped(
    traces: Iterable[Trace | Refused], counts: Counter[bytes], skipped: Skipped
) -> Iterator[list[Trace]]:
    """Give each group as soon as its last trace was read.

    Args:
        traces: The same again.
        counts: Of `counted`; used up.
        skipped: Where traces that are left out are counted.

    Raises:
        InputError: A trace is refused, and none may be skipped; or the file has changed.
    """
    begun: dict[bytes, list[Trace]] = {}
    for found in traces:
        if isinstance(found, Refused):
            skipped.add(found)
            continue
        group = begun.setdefault(found.key, [])
        if difference := _difference(group, found):
            skipped.add(difference)
        else:
            group.append(found)
        counts[found.key] -= 1
        if counts[found.key] <= 0:
            yield begun.pop(found.key)
    if begun or any(counts.values()):
        raise InputError("the traces changed while they were read; import them once they are whole")


def _difference(group: Sequence[Trace], trace: Trace) -> Refused | None:
    """What keeps a trace from the group that it says it is of."""
    if not group:
        return None
    first, ours, theirs = group[0], group[0].problem, trace.problem
    pairs: dict[str, tuple[Any, Any]] = {
        "prompt": ((ours.prompt, ours.tools), (theirs.prompt, theirs.tools)),
        "temperature": (first.temperature, trace.temperature),
        **{key: (ours.reference.get(key), theirs.reference.get(key)) for key in OF_A_GROUP},
    }
    for what, (one, other) in pairs.items():
        if one != other:
            return Refused(
                "group",
                f"{theirs.place}: its {what} is not that of {ours.place}, and both are of group "
                f"{trace.name!r}; a group answers one prompt at one temperature: give them "
                "different groups, or group by equal prompts (--column group= --column id=)",
            )
    return None


class Builder:
    """Makes stored groups.

    Args:
        renderer: Makes tokens.
        skipped: Where traces that are left out are counted.

    Attributes:
        left_out: Columns that differ within a group, and so are not known of its prompt.
    """

    def __init__(self, renderer: Renderer, skipped: Skipped) -> None:
        self._renderer = renderer
        self._skipped = skipped
        self.left_out: set[str] = set()

    def build(self, traces: Sequence[Trace]) -> StoredGroup | None:
        """Make a group; None where none of its traces is left.

        A trace that cannot be written is left out with its reward known: it was sampled, so the
        credit of the others is that among all.

        Args:
            traces: Of one prompt, at least one.

        Raises:
            InputError: A trace is refused, and none may be skipped.
        """
        first, rollouts, places = traces[0], [], []
        try:
            asked = self._renderer.prompt(first.problem)
        except Refused as refused:
            self._skipped.add(refused, len(traces))
            return None
        for place, trace in enumerate(traces):
            try:
                rollouts.append(self._renderer.rollout(asked, trace))
                places.append(place)
            except Refused as refused:
                self._skipped.add(refused)
        if not rollouts:
            return None
        rewards = np.array([trace.reward for trace in traces], np.float32)
        return StoredGroup(
            prompt=Prompt(
                id=f"{first.problem.source}:{first.name}@0",
                text=asked.text,
                token_ids=asked.token_ids,
                verifiers={},
                reference=self._common(traces),
                source=first.problem.source,
                question=first.problem.question,
            ),
            version=self._renderer.version,
            sampling=Sampling(
                temperature=1.0 if first.temperature is None else first.temperature,
                max_tokens=max(len(rollout.token_ids) for rollout in rollouts),
            ),
            rollouts=tuple(rollouts),
            places=tuple(places),
            rewards=rewards[places],
            verdicts=tuple({} for _ in rollouts),
            all_rewards=rewards,
            all_kinds=tuple({} for _ in traces),
        )

    def _common(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """What all traces say of the prompt."""
        references = [trace.problem.reference for trace in traces]
        names = dict.fromkeys(name for reference in references for name in reference)
        common = {
            name: references[0][name]
            for name in names
            if all(name in one and one[name] == references[0].get(name) for one in references)
        }
        self.left_out |= set(names) - set(common)
        return common

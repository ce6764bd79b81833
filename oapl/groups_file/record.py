"""What a stored set says of itself, and what it holds of each group.

Invariant: what a group was as generated stays beside what a filter has left of it: `all_rewards`
and `all_kinds` are of all G rollouts, and a rollout's credit is computed from those. So a filter
that takes rollouts out changes what is trained on, and no rollout's credit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from oapl.records import (
    Credit,
    CreditedGroup,
    Group,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    Verdict,
)

FORMAT = 2
"""Rises with every change of the schema. Format 1 had no `learner_logprobs`."""
MadeBy = Literal["generate", "train", "eval", "import", "filter"]
Logprobs = Literal["sampled", "scored"]
Kinds = Mapping[str, str]
"""A rollout's kinds of verdict, by verifier name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a set says of itself, in every shard.

    Attributes:
        model: Path or name of the model that the tokens were made for, as it was written. Does not
            count where headers are compared: the same model may lie elsewhere.
        weights: Fingerprint of that model's weights; empty where no files of it were at hand, and
            in sets that were made before it was noted.
        tokenizer: Fingerprint of its tokenizer.
        template: Fingerprint of the template that the prompts were written by.
        made_by: What wrote it.
        logprobs: How the log-probs came about: while sampling, or scored afterwards by the engine;
            None where there are none.
        format: `FORMAT` of who wrote the shard. Does not count either: a set of an earlier format
            is gone on with.
    """

    model: str = field(compare=False)
    tokenizer: str
    template: str
    made_by: MadeBy
    logprobs: Logprobs | None
    weights: str = field(default="", compare=False)
    format: int = field(default=FORMAT, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredGroup:
    """K rollouts that were kept of the G that were generated for one prompt.

    Attributes:
        prompt: With its verifiers, and the source's own columns in `reference`.
        version: The learner step whose weights sampled them.
        sampling: How each was drawn.
        rollouts: K of them.
        places: Where each stood in the group as generated, ascending, below G.
        rewards: float32 [K].
        verdicts: Of the K, by verifier name.
        all_rewards: float32 [G], of the group as generated.
        all_kinds: Of the G, by verifier name.
        step: The learner step that trained on it; -1 where none did.
        credit: float32 [K], what that step's objective made of it; None where none did.
        learner_logprobs: Of the K float32 [T], ln pi of the learner in that step, nats; None where
            they were not kept.
    """

    prompt: Prompt
    version: int
    sampling: Sampling
    rollouts: tuple[Rollout, ...]
    places: tuple[int, ...]
    rewards: np.ndarray
    verdicts: tuple[Mapping[str, Verdict], ...]
    all_rewards: np.ndarray
    all_kinds: tuple[Kinds, ...]
    step: int = -1
    credit: np.ndarray | None = None
    learner_logprobs: tuple[np.ndarray, ...] | None = None

    @classmethod
    def from_scored(cls, scored: ScoredGroup) -> StoredGroup:
        """Take a whole group, as it was generated."""
        group = scored.group
        kinds = tuple(
            {name: verdict.kind for name, verdict in of_one.items()} for of_one in scored.verdicts
        )
        return cls(
            prompt=group.prompt,
            version=group.version,
            sampling=group.sampling,
            rollouts=group.rollouts,
            places=tuple(range(len(group.rollouts))),
            rewards=scored.rewards,
            verdicts=scored.verdicts,
            all_rewards=scored.rewards,
            all_kinds=kinds,
        )

    @classmethod
    def from_credited(
        cls,
        credited: CreditedGroup,
        step: int,
        learner_logprobs: tuple[np.ndarray, ...] | None = None,
    ) -> StoredGroup:
        """Take a whole group that was trained on.

        Args:
            credited: With the objective's credit.
            step: The learner step.
            learner_logprobs: As in the record.
        """
        return replace(
            cls.from_scored(credited.scored),
            step=step,
            credit=credited.credit.values,
            learner_logprobs=learner_logprobs,
        )

    def scored(self) -> ScoredGroup:
        """Give the K rollouts with their rewards."""
        group = Group(
            prompt=self.prompt,
            rollouts=self.rollouts,
            version=self.version,
            sampling=self.sampling,
        )
        return ScoredGroup(group=group, rewards=self.rewards, verdicts=self.verdicts)

    def credited(self, credit: Callable[[ScoredGroup], Credit]) -> CreditedGroup:
        """Give the K rollouts with the credit that they have among all G.

        Args:
            credit: An objective's: it looks at the rewards, which are those of the G, and at
                whether the rollouts, which are the K, have log-probs.
        """
        scored = self.scored()
        of_all = credit(replace(scored, rewards=self.all_rewards))
        values = of_all.values[list(self.places)]
        return CreditedGroup(scored=scored, credit=replace(of_all, values=values))

    def keeping(self, is_kept: np.ndarray) -> StoredGroup:
        """Take rollouts out.

        Args:
            is_kept: bool [K].
        """
        kept = [int(index) for index in np.flatnonzero(is_kept)]
        scored = self.learner_logprobs
        return replace(
            self,
            rollouts=tuple(self.rollouts[index] for index in kept),
            places=tuple(self.places[index] for index in kept),
            rewards=self.rewards[kept],
            verdicts=tuple(self.verdicts[index] for index in kept),
            credit=None if self.credit is None else self.credit[kept],
            learner_logprobs=None if scored is None else tuple(scored[index] for index in kept),
        )

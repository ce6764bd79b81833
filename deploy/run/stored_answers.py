"""Answers of engines as stored groups: those of an evaluation, and those made to be stored.

Invariant: what nobody could judge has no reward and is stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from oapl.groups_file import Header, StoredGroup, Writer, pass_rates
from oapl.records import (
    EvalAnswers,
    Group,
    Judgement,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
)
from oapl.whole_files import written_aside


def as_stored(scored: ScoredGroup) -> StoredGroup:
    """A group of an engine that no weights were given to: those are the model's, of version 0."""
    rollouts = tuple(
        replace(rollout, first_version=0, last_version=0) for rollout in scored.group.rollouts
    )
    group = replace(scored.group, version=0, rollouts=rollouts)
    return StoredGroup.from_scored(replace(scored, group=group))


def store(
    folder: Path,
    header: Header,
    answers: Sequence[EvalAnswers],
    sampling: Sampling,
    threshold: float,
) -> None:
    """Write the samples of an evaluation as a set, with the pass rate of each problem beside them.

    Args:
        folder: The set; one that is there is replaced.
        header: What it says of itself.
        answers: One record per problem.
        sampling: Of the samples.
        threshold: Smallest reward that counts as right.
    """
    with written_aside(folder) as part:
        with Writer(part, header) as writer:
            for group in groups_of(answers, sampling):
                writer.add(group)
        pass_rates.write(part, threshold)


def groups_of(answers: Sequence[EvalAnswers], sampling: Sampling) -> Iterator[StoredGroup]:
    """Give a group of all judged samples of each problem.

    Args:
        answers: One record per problem; without samples its greedy answer is the only one.
        sampling: Of the samples.
    """
    for answer in answers:
        if answer.rollouts:
            pairs = list(zip(answer.rollouts, answer.judgements, strict=True))
            drawn = sampling
        else:
            assert answer.greedy is not None, "a problem has a sample or a greedy answer"
            assert answer.greedy_judgement is not None, "an answer is judged"
            pairs = [(answer.greedy, answer.greedy_judgement)]
            drawn = sampling.greedy()
        judged = [pair for pair in pairs if pair[1].failure is None]
        if judged:
            yield _group(answer.prompt, judged, drawn)


def _group(
    prompt: Prompt, judged: Sequence[tuple[Rollout, Judgement]], sampling: Sampling
) -> StoredGroup:
    rollouts, judgements = zip(*judged, strict=True)
    version = rollouts[0].first_version
    group = Group(prompt=prompt, rollouts=rollouts, version=version, sampling=sampling)
    scored = ScoredGroup(
        group=group,
        rewards=np.array([judgement.reward for judgement in judgements], np.float32),
        verdicts=tuple(judgement.verdicts for judgement in judgements),
    )
    return as_stored(scored) if version < 0 else StoredGroup.from_scored(scored)

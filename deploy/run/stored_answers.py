"""Answers of engines as stored groups: those of an evaluation, and those made to be stored.

Invariant: what nobody could judge has no reward and is stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploy.run import evaluation_files
from deploy.run.evaluation_files import Made
from oapl import groups_file
from oapl.evaluation import Protocol
from oapl.groups_file import Header, StoredGroup, Writer, is_set, pass_rates
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

GREEDY = "_greedy"
"""Set of the greedy answers within one of samples."""


def as_stored(scored: ScoredGroup) -> StoredGroup:
    """A group of an engine that no weights were given to: those are the model's, of version 0."""
    rollouts = tuple(
        replace(rollout, first_version=0, last_version=0) for rollout in scored.group.rollouts
    )
    group = replace(scored.group, version=0, rollouts=rollouts)
    return StoredGroup.from_scored(replace(scored, group=group))


def store(folder: Path, header: Header, answers: Sequence[EvalAnswers], made: Made) -> None:
    """Write the answers to an evaluation set as a set of groups, with the pass rate of each problem
    beside them, and how they were made. Greedy answers beside samples lie in a set within, which
    what reads the folder as one table passes over: a set is of one way to draw.

    Args:
        folder: The set; one that is there is replaced.
        header: What it says of itself.
        answers: One record per problem.
        made: How they were made.
    """
    protocol = made.protocol
    with written_aside(folder) as part:
        _write(part, header, groups_of(answers, protocol.sampling))
        if protocol.num_samples and protocol.greedy:
            _write(part / GREEDY, header, _greedy_groups(answers, protocol.sampling))
        pass_rates.write(part, protocol.threshold)
        evaluation_files.write(part / evaluation_files.FILE, made)


def read(folder: Path) -> tuple[Made, list[EvalAnswers]]:
    """Read the answers to an evaluation set back, with their judgements.

    Args:
        folder: As `store` has written it, or a set of groups of any other origin, which is taken
            for samples.

    Returns:
        How they were made, and one record per problem that has an answer which was judged.

    Raises:
        InputError: The set is damaged, or is none.
    """
    groups = list(groups_file.read(folder))
    made = evaluation_files.read(folder / evaluation_files.FILE) or _guessed(folder, groups)
    if not made.protocol.num_samples:
        return made, [_answers(group.prompt, None, group) for group in groups]
    within = folder / GREEDY
    greedy = {g.prompt.id: g for g in (groups_file.read(within) if is_set(within) else ())}
    answers = [_answers(group.prompt, group, greedy.pop(group.prompt.id, None)) for group in groups]
    return made, [*answers, *(_answers(group.prompt, None, group) for group in greedy.values())]


def _guessed(folder: Path, groups: Sequence[StoredGroup]) -> Made:
    """Of a set that does not say how it was made: by its groups."""
    if not groups:
        return Made(name=folder.name, protocol=Protocol())
    sampling = groups[0].sampling
    n = max(len(group.all_rewards) for group in groups) if sampling.temperature else 0
    ks = tuple(sorted({1, n} - {0}))
    drawn = Protocol(num_samples=n, sampling=sampling, greedy=not n, ks=ks)
    return Made(name=folder.name, protocol=drawn)


def _answers(
    prompt: Prompt, samples: StoredGroup | None, greedy: StoredGroup | None
) -> EvalAnswers:
    judged = [] if samples is None else list(zip(samples.rollouts, _judged(samples), strict=True))
    return EvalAnswers(
        prompt=prompt,
        rollouts=tuple(rollout for rollout, _ in judged),
        judgements=tuple(judgement for _, judgement in judged),
        greedy=greedy.rollouts[0] if greedy else None,
        greedy_judgement=_judged(greedy)[0] if greedy else None,
    )


def _judged(group: StoredGroup) -> list[Judgement]:
    """The reward as it was: a file has 32 bits of it, which may lie beside a threshold."""
    judged = []
    weights = group.prompt.verifiers
    for reward, verdicts in zip(group.rewards, group.verdicts, strict=True):
        exact = float(reward)
        if weights.keys() == verdicts.keys():
            summed = sum(weight * verdicts[name].reward for name, weight in weights.items())
            exact = float(summed) if np.float32(summed) == reward else exact
        judged.append(Judgement(reward=exact, verdicts=verdicts))
    return judged


def _write(folder: Path, header: Header, groups: Iterator[StoredGroup]) -> None:
    with Writer(folder, header) as writer:
        for group in groups:
            writer.add(group)


def _greedy_groups(answers: Sequence[EvalAnswers], sampling: Sampling) -> Iterator[StoredGroup]:
    """The greedy answer of each problem, as the only one."""
    alone = [replace(answer, rollouts=(), judgements=()) for answer in answers]
    return groups_of([answer for answer in alone if answer.greedy is not None], sampling)


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

"""Stored groups for tests: a question, what was answered, and how it was judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oapl.groups_file import Header, StoredGroup, Writer
from oapl.records import Group, Prompt, Rollout, Sampling, ScoredGroup, Verdict

HEADER = Header(model="m", tokenizer="t", template="p", made_by="generate", logprobs="sampled")
REFERENCE = {"answer": "7", "level": 3, "tests": [{"in": "1"}]}


def scored(
    name: str = "q",
    rewards: Sequence[float] = (1.0, 0.0, 1.0),
    lengths: Sequence[int] = (),
    *,
    question: str = "",
    reference: Mapping[str, Any] = REFERENCE,
    logprobs: bool = True,
    source: str = "s",
) -> ScoredGroup:
    """A group of which everything is told by its arguments.

    Args:
        name: Of the question, which is its text unless `question` is given.
        rewards: Of verifier `math`, [G].
        lengths: Response tokens of each, [G]; 3 unless given.
        question: The user's words.
        reference: Columns of the source.
        logprobs: Whether the rollouts have any.
        source: Name of the source.
    """
    prompt = Prompt(
        id=f"{source}:{name}@0",
        text=f"<user>{name}",
        token_ids=np.array([1, 2], np.int32),
        verifiers={"math": 0.9, "format": 0.1},
        reference=reference,
        source=source,
        question=question or name,
    )
    sizes = lengths or [3] * len(rewards)
    rollouts = tuple(_rollout(place, size, logprobs) for place, size in enumerate(sizes))
    verdicts = tuple({"math": _verdict(reward)} for reward in rewards)
    sampling = Sampling(temperature=0.6, top_p=0.95, top_k=40, max_tokens=9)
    group = Group(prompt=prompt, rollouts=rollouts, version=5, sampling=sampling)
    return ScoredGroup(group=group, rewards=np.array(rewards, np.float32), verdicts=verdicts)


def stored(*arguments: Any, **options: Any) -> StoredGroup:
    """See `scored`."""
    return StoredGroup.from_scored(scored(*arguments, **options))


def write(
    folder: Path, groups: Sequence[StoredGroup], header: Header = HEADER, rows_per_shard: int = 6
) -> Path:
    """Write a set, of which the folder is given back."""
    with Writer(folder, header, rows_per_shard) as writer:
        for group in groups:
            writer.add(group)
    return folder


def _rollout(place: int, size: int, logprobs: bool) -> Rollout:
    return Rollout(
        token_ids=np.arange(place, place + size, dtype=np.int32),
        inference_logprobs=np.full(size, -0.1 - place, np.float32) if logprobs else None,
        finish_reason="length" if place else "stop",
        text=f"answer {place} ü",
        first_version=5,
        last_version=5,
    )


def _verdict(reward: float) -> Verdict:
    return Verdict(
        kind="accepted" if reward == 1 else "wrong_answer",
        reward=reward,
        detail="d",
        seconds=0.5,
        parts={"extracted": 1.0},
    )

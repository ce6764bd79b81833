"""What a dry run says of the training data, beside what it refuses: a few lines for each source.

Counted over prompts as they are trained on. Duplicates, lengths and answers are of every row; the
comparison with evaluation sets takes a while for each and stops after `MOST_COMPARED` rows, which
its line says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.data import difficulty
from actors.data.encoding import RowCounts
from actors.data.ordering import weights_of
from deploy.filters._words import marks
from oapl.config import RunConfig
from oapl.config.objective import samples
from oapl.records import Prompt
from reward_server import settings as rewards

MOST_COMPARED = 10_000
RUN_WORDS = 13
"""Words in a row that count as the same text, as in the filter `contamination`."""
QUARTERS = (25, 50, 75)
SHARES = (50, 90, 99)
"""Per cent of the prompts whose longest, or whose highest pass rate, is told."""
SHOWN, SHOWN_CHARACTERS = 3, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceData:
    """The prompts of one training source.

    Attributes:
        prompts: Those that are trained on.
        counts: What became of its rows.
        room: Most tokens of a prompt.
    """

    prompts: Sequence[Prompt]
    counts: RowCounts
    room: int


def data_facts(
    config: RunConfig, training: Mapping[str, SourceData], evaluation: Sequence[Prompt]
) -> dict[str, str]:
    """Say what stands in the training data.

    Args:
        config: Names the verifiers.
        training: By the source's name.
        evaluation: The prompts of all evaluation sets.

    Returns:
        Name to one line of text, as of `PreflightReport.facts`.
    """
    known = _marked(evaluation)
    sets = tuple(dict.fromkeys(prompt.source for prompt in evaluation))
    seen: set[bytes] = set()
    weights = weights_of(config)
    asking = {
        source.name
        for source in config.data.sources
        if source.easy_first or source.pass_rate != difficulty.ALL
    }
    rows = sum(len(data.prompts) for data in training.values())
    facts = {}
    for name, data in training.items():
        if weights:
            share = weights[name] / sum(weights.values())
            facts[f"data {name} share"] = (
                f"{share:.1%} of the draws, {share * rows / len(data.prompts):.2f} passes an epoch"
            )
        if name in asking:
            facts[f"data {name} pass rates"] = _pass_rates(data)
        facts[f"data {name} tokens"] = _lengths(data)
        facts[f"data {name} doubles"] = _doubles(data, seen)
        if sets:
            facts[f"data {name} overlap"] = _overlap(data, known, sets)
        if samples(config) and (line := _answers(config, data)):
            facts[f"data {name} answers"] = line
    return facts


def _pass_rates(data: SourceData) -> str:
    rates = [difficulty.rate_of(prompt.reference, prompt.id) for prompt in data.prompts]
    known = [rate for rate in rates if rate is not None]
    lowest = np.percentile(known, QUARTERS, method="inverted_cdf")
    parts = [f"{share}% {rate:.2f}" for share, rate in zip(QUARTERS, lowest, strict=True)]
    return f"from {min(known):.2f} to {max(known):.2f}; at most: {', '.join(parts)}"


def _lengths(data: SourceData) -> str:
    lengths = [len(prompt.token_ids) for prompt in data.prompts]
    longest = np.percentile(lengths, SHARES, method="inverted_cdf")
    parts = [f"{share}% {int(most)}" for share, most in zip(SHARES, longest, strict=True)]
    over = (data.counts.dropped + data.counts.truncated) / data.counts.read
    return (
        f"at most: {', '.join(parts)}, all {max(lengths)}; "
        f"{over:.1%} of the rows are over the room of {data.room}"
    )


def _doubles(data: SourceData, seen: set[bytes]) -> str:
    """Questions that stand letter by letter in an earlier row, of this source or one before."""
    count = 0
    for prompt in data.prompts:
        digest = hashlib.blake2b(prompt.question.encode(), digest_size=16).digest()
        count += digest in seen
        seen.add(digest)
    return f"{count} of {len(data.prompts)} questions stand in an earlier row, letter by letter"


def _marked(evaluation: Sequence[Prompt]) -> dict[int, set[str]]:
    """Evaluation sets by what their questions are told by."""
    known: dict[int, set[str]] = {}
    for prompt in evaluation:
        for mark in marks(prompt.question, RUN_WORDS):
            known.setdefault(mark, set()).add(prompt.source)
    return known


def _overlap(data: SourceData, known: Mapping[int, set[str]], sets: Sequence[str]) -> str:
    counts = dict.fromkeys(sets, 0)
    compared = data.prompts[:MOST_COMPARED]
    for prompt in compared:
        met = [known[mark] for mark in marks(prompt.question, RUN_WORDS) if mark in known]
        for name in set().union(*met):
            counts[name] += 1
    bound = f" of the first {MOST_COMPARED}" if len(data.prompts) > MOST_COMPARED else ""
    found = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"questions{bound} that share {RUN_WORDS} words in a row with a set: {found}"


def _answers(config: RunConfig, data: SourceData) -> str:
    """Reference answers that a verifier compares as text alone; empty where there are none."""
    found = list(_text_alone(config, data.prompts))
    if not found:
        return ""
    examples = ", ".join(
        repr(text[:SHOWN_CHARACTERS]) for text in list(dict.fromkeys(found))[:SHOWN]
    )
    return (
        f"{len(found)} of {len(data.prompts)} are not read as mathematics, so that only the same "
        f"text is right: {examples}"
    )


def _text_alone(config: RunConfig, prompts: Sequence[Prompt]) -> Iterator[str]:
    """The first such answer of each prompt that has one."""
    checks = rewards.text_alone(config)
    for prompt in prompts:
        found = [text for name in prompt.verifiers for text in checks[name](prompt)]
        if found:
            yield found[0]

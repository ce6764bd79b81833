"""The number of a problem: what measures are means of, and comparisons are made of.

A problem without what is asked for (no sample, fewer than k of them, no greedy answer) has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from oapl.evaluation.pass_at_k import pass_at_k
from oapl.evaluation.problem import Problem, Sample
from oapl.evaluation.protocol import Protocol
from oapl.evaluation.votes import extract_answer, majority
from oapl.tags import THINK, blocks, opens_thinking

Number = Callable[[Problem, Protocol], float | None]
PASS = re.compile(r"pass@([1-9]\d*)")


def number_of(measure: str) -> Number | None:
    """Find the number of that name; None where there is none.

    Args:
        measure: A key of `NUMBERS`, or `pass@K`.
    """
    if found := PASS.fullmatch(measure):
        return passed(int(found[1]))
    return NUMBERS.get(measure)


def mean(problem: Problem, protocol: Protocol) -> float | None:
    """Mean reward of the samples.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    return _mean([judgement.reward for _, judgement in problem.samples])


def maj(problem: Problem, protocol: Protocol) -> float | None:
    """Whether the samples' most frequent answer is right, as the first one of it was judged.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    if not problem.samples:
        return None
    votes = [extract_answer(rollout.text) for rollout, _ in problem.samples]
    winner = majority(votes)
    if winner is None:
        return 0.0
    return float(problem.samples[votes.index(winner)][1].reward >= protocol.threshold)


def greedy(problem: Problem, protocol: Protocol) -> float | None:
    """Reward at temperature 0.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    return None if problem.greedy is None else problem.greedy[1].reward


def right(problem: Problem, protocol: Protocol) -> float | None:
    """Share of the responses that is right.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    return _mean([judgement.reward >= protocol.threshold for _, judgement in problem.responses])


def halved(problem: Problem, protocol: Protocol) -> float | None:
    """The same at half the limit: what is longer would have been cut off, and is not right.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    if not protocol.sampling.max_tokens:
        return None
    half = protocol.sampling.max_tokens // 2
    return _mean(
        [
            judgement.reward >= protocol.threshold and len(rollout.token_ids) <= half
            for rollout, judgement in problem.responses
        ]
    )


def length(problem: Problem, protocol: Protocol) -> float | None:
    """Mean response length in tokens.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    return _mean([len(rollout.token_ids) for rollout, _ in problem.responses])


def truncated(problem: Problem, protocol: Protocol) -> float | None:
    """Share of the responses cut off at the limit.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    return _mean([rollout.is_truncated for rollout, _ in problem.responses])


def think(problem: Problem, protocol: Protocol) -> float | None:
    """Share of the responses with something between `<think>` and `</think>`, the first of which
    may stand at the end of the prompt.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    begin = f"<{THINK}>" if opens_thinking(problem.prompt.text) else ""
    return _mean([bool(blocks(begin + rollout.text, [THINK])) for rollout, _ in problem.responses])


def reflection(problem: Problem, protocol: Protocol) -> float | None:
    """Share of the responses with at least one of the words, in small or capital letters.

    Args:
        problem: With its judged responses.
        protocol: By which they were made and are judged.
    """
    words = _any_of(protocol.reflection_words)
    return _mean([bool(words.search(rollout.text)) for rollout, _ in problem.responses])


def samples_of(problems: Sequence[Problem]) -> list[Sample]:
    """All responses of all problems."""
    return [sample for problem in problems for sample in problem.responses]


def passed(k: int) -> Number:
    """pass@k of a problem; none where it has fewer samples."""
    return partial(_pass, k)


def _pass(k: int, problem: Problem, protocol: Protocol) -> float | None:
    n = len(problem.samples)
    if k > n:
        return None
    c = sum(judgement.reward >= protocol.threshold for _, judgement in problem.samples)
    return pass_at_k(n, c, k)


@cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    any_word = "|".join(re.escape(word) for word in words)
    return re.compile(rf"(?<!\w)(?:{any_word})(?!\w)", re.IGNORECASE)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


NUMBERS: dict[str, Number] = {
    "mean": mean,
    "maj": maj,
    "greedy": greedy,
    "right": right,
    "halved": halved,
    "length": length,
    "truncated": truncated,
    "think": think,
    "reflection": reflection,
}
"""By name, beside `pass@K`."""

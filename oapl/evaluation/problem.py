"""One problem of an evaluation with what was answered and judged.

Invariant: a sample that nobody could judge (our fault) is left out and counted, never taken for
wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from oapl.evaluation.protocol import Protocol
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout

Sample = tuple[Rollout, Judgement]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A problem and its judged answers.

    Attributes:
        prompt: The problem.
        samples: Those that were judged, with their judgements.
        greedy: The answer at temperature 0, where there is one and it was judged.
        responses: What is looked at as text: the samples, or, where nothing is sampled, the greedy
            answer.
        unjudged: Samples that nobody could judge.
    """

    prompt: Prompt
    samples: tuple[Sample, ...]
    greedy: Sample | None
    responses: tuple[Sample, ...]
    unjudged: int = 0

    @classmethod
    def of(cls, answers: EvalAnswers, protocol: Protocol) -> Problem:
        """Take in the answers to a problem.

        Args:
            answers: With their judgements.
            protocol: How they were asked for.
        """
        pairs = zip(answers.rollouts, answers.judgements, strict=True)
        samples = tuple(pair for pair in pairs if pair[1].failure is None)
        greedy = _greedy(answers)
        return cls(
            prompt=answers.prompt,
            samples=samples,
            greedy=greedy,
            responses=samples if protocol.num_samples else (greedy,) if greedy else (),
            unjudged=len(answers.rollouts) - len(samples),
        )


def _greedy(answers: EvalAnswers) -> Sample | None:
    rollout, judgement = answers.greedy, answers.greedy_judgement
    if rollout is None or judgement is None or judgement.failure is not None:
        return None
    return rollout, judgement

"""Evaluations for tests, written as a run writes them: answers, their judgements, how they were
made. No engine has seen any of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.run import stored_answers, text_answers
from deploy.run.evaluation_files import Made
from oapl.evaluation import Protocol, summarise
from oapl.groups_file import Header
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout, Sampling, Verdict

HEADER = Header(model="m", tokenizer="t", template="p", made_by="eval", logprobs="sampled")


def answered(
    question: str,
    rewards: Sequence[float | None],
    greedy: float | None = None,
    *,
    source: str = "sums",
    texts: Sequence[str] = (),
    lengths: Sequence[int] = (),
    reference: Mapping[str, Any] | None = None,
    verifiers: Mapping[str, float] | None = None,
) -> EvalAnswers:
    """The answers to a question; a reward of None is one that nobody could judge."""
    prompt = Prompt(
        id=f"{source}:{question}@0",
        text=f"<user>{question}",
        token_ids=np.array([4, 5], np.int32),
        verifiers=verifiers or {"math": 1.0},
        reference=reference or {"answer": "7"},
        source=source,
        question=question,
    )
    weights = prompt.verifiers
    said = texts or [rf"\boxed{{{reward}}}" for reward in rewards]
    sizes = lengths or range(1, len(rewards) + 1)
    return EvalAnswers(
        prompt=prompt,
        rollouts=tuple(rollout(text, size) for text, size in zip(said, sizes, strict=True)),
        judgements=tuple(judged(reward, weights) for reward in rewards),
        greedy=None if greedy is None else rollout(f"{greedy}", 5),
        greedy_judgement=None if greedy is None else judged(greedy, weights),
    )


def rollout(text: str, length: int) -> Rollout:
    return Rollout(
        token_ids=np.arange(length, dtype=np.int32),
        inference_logprobs=np.full(length, -0.5, np.float32),
        finish_reason="stop",
        text=text,
        first_version=0,
        last_version=0,
    )


def judged(reward: float | None, weights: Mapping[str, float]) -> Judgement:
    """The reward as the sum of what each verifier, by its weight, has given."""
    if reward is None:
        return Judgement(reward=float("nan"), verdicts={}, failure="a server died")
    kind = "accepted" if reward >= 1 else "wrong_answer"
    total = sum(weights.values())
    verdicts = {name: Verdict(kind=kind, reward=reward / total) for name in weights}  # type: ignore[arg-type]
    exact = sum(weight * verdicts[name].reward for name, weight in weights.items())
    return Judgement(reward=exact, verdicts=verdicts)


def protocol(samples: int, *, greedy: bool = False, **said: Any) -> Protocol:
    """So many samples at temperature 0.6, at most 64 tokens."""
    drawn = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
    ks = tuple(sorted({1, samples} - {0}))
    return Protocol(num_samples=samples, sampling=drawn, greedy=greedy, ks=ks, **said)


def write_run(
    folder: Path,
    label: str,
    sets: Mapping[str, Sequence[EvalAnswers]],
    asked: Protocol,
    *,
    stores: bool = True,
) -> Path:
    """Write an evaluation of a run: as text, as groups where asked for, and its line of metrics.

    Returns:
        The run folder.
    """
    evaluations = folder / "evaluations"
    evaluations.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, float] = {}
    for name, answers in sets.items():
        made = Made.of(name, asked, answers)
        text_answers.write(evaluations, label, made, answers)
        if stores:
            stored_answers.store(evaluations / label / name, HEADER, answers, made)
        metrics |= summarise(name, answers, asked)
    step = int(label.removeprefix("step-")) if label.startswith("step-") else 0
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "time/unix_s": 1.0 + step, **metrics}) + "\n")
    return folder

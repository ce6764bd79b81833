"""Answers of an evaluation as text, `evaluations/LABEL.SET.jsonl`: what every evaluation leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.run import evaluation_files
from deploy.run.evaluation_files import Made
from oapl.errors import InputError
from oapl.evaluation import Protocol
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout, Sampling

SUFFIX = ".jsonl"


def write(folder: Path, label: str, made: Made, answers: Sequence[EvalAnswers]) -> None:
    """Write the answers to a set, and beside them how they were made.

    Args:
        folder: `evaluations` of the run, made where it is not there.
        label: Of the evaluation.
        made: How they were made.
        answers: One record per problem.
    """
    folder.mkdir(exist_ok=True)
    evaluation_files.write(folder / f"{label}.{made.name}.json", made)
    with (folder / f"{label}.{made.name}{SUFFIX}").open("w") as file:
        for answer in answers:
            file.write(json.dumps(_row(answer)) + "\n")


def labels(folder: Path) -> list[str]:
    """Find the evaluations of a run: those of learner steps in their order, then others.

    Args:
        folder: `evaluations` of the run.
    """
    found = {path.name.partition(".")[0] for path in folder.glob(f"*{SUFFIX}")}
    return sorted(found, key=lambda label: (_step(label) is None, _step(label) or 0, label))


def sets(folder: Path, label: str) -> list[Path]:
    """Find the files of an evaluation, one per set.

    Args:
        folder: `evaluations` of the run.
        label: Of the evaluation.
    """
    return sorted(folder.glob(f"{label}.*{SUFFIX}"))


def read(path: Path) -> tuple[Made, list[EvalAnswers]]:
    """Read the answers to a set back: text, rewards, lengths; tokens and verdicts are not kept so.

    Args:
        path: As `write` has named it.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        name = path.name.removesuffix(SUFFIX).partition(".")[2] or path.stem
        answers = [_answers(row, name) for row in rows]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a file there") from error
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} holds no answers of an evaluation ({error!r}); name a file "
            f"evaluations/LABEL.SET{SUFFIX} of a run, whole"
        ) from error
    return evaluation_files.read(path.with_suffix(".json")) or _guessed(name, answers), answers


def _step(label: str) -> int | None:
    number = label.removeprefix("step-")
    return int(number) if number != label and number.isdigit() else None


def _guessed(name: str, answers: Sequence[EvalAnswers]) -> Made:
    """Of an earlier build: how answers were drawn is not known."""
    n = max((len(answer.rollouts) for answer in answers), default=0)
    greedy = any(answer.greedy is not None for answer in answers)
    ks = tuple(sorted({1, n} - {0}))
    drawn = Sampling(temperature=math.nan, top_p=math.nan, max_tokens=0)
    return Made(name=name, protocol=Protocol(num_samples=n, sampling=drawn, greedy=greedy, ks=ks))


def _row(answer: EvalAnswers) -> dict[str, Any]:
    pairs = zip(answer.rollouts, answer.judgements, strict=True)
    row: dict[str, Any] = {
        "id": answer.prompt.id,
        "question": answer.prompt.question,
        "prompt": answer.prompt.text,
        "answer": answer.prompt.reference.get("answer"),
        "samples": [_sample(rollout, judgement) for rollout, judgement in pairs],
    }
    if answer.greedy is not None and answer.greedy_judgement is not None:
        row["greedy"] = _sample(answer.greedy, answer.greedy_judgement)
    return row


def _sample(rollout: Rollout, judgement: Judgement) -> dict[str, Any]:
    return {
        "text": rollout.text,
        "reward": None if judgement.failure else judgement.reward,
        "tokens": len(rollout.token_ids),
        "finish_reason": rollout.finish_reason,
    }


def _answers(row: Mapping[str, Any], name: str) -> EvalAnswers:
    prompt = Prompt(
        id=row["id"],
        text=row.get("prompt", ""),
        token_ids=np.empty(0, np.int32),
        verifiers={},
        reference={"answer": row.get("answer")},
        source=name,
        question=row["question"],
    )
    samples, greedy = row["samples"], row.get("greedy")
    return EvalAnswers(
        prompt=prompt,
        rollouts=tuple(map(_rollout, samples)),
        judgements=tuple(map(_judgement, samples)),
        greedy=None if greedy is None else _rollout(greedy),
        greedy_judgement=None if greedy is None else _judgement(greedy),
    )


def _rollout(sample: Mapping[str, Any]) -> Rollout:
    return Rollout(
        token_ids=np.zeros(int(sample["tokens"]), np.int32),
        inference_logprobs=None,
        finish_reason=sample["finish_reason"],
        text=sample["text"],
        first_version=0,
        last_version=0,
    )


def _judgement(sample: Mapping[str, Any]) -> Judgement:
    reward = sample["reward"]
    if reward is None:
        return Judgement(reward=math.nan, verdicts={}, failure="nobody could judge it")
    return Judgement(reward=float(reward), verdicts={})

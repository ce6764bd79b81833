"""The evaluation of what the engines hold, on every set of `eval.sources`.

Invariant: an evaluation leaves behind every answer that its figures were made of: as text always,
as stored groups where that is asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.data import prompts
from actors.data.fingerprints import header_of, of_template
from actors.data.templates import choose
from actors.data.tokenizer import load_tokenizer
from deploy.run import stored_answers
from deploy.run.workers import Workers
from oapl.config import RunConfig
from oapl.config.sections import DataSource
from oapl.evaluation import summarise
from oapl.groups_file import Header
from oapl.records import EvalAnswers, Judgement, Metrics, Rollout
from oapl.sampling import of_evaluations


class Evaluator:
    """Evaluates when it is called, and keeps the answers in `evaluations/LABEL.SET.jsonl`; as
    stored groups, with the pass rate of each problem, in `evaluations/LABEL/SET/`.

    Args:
        config: The run.
        workers: Answer and have judged.
        stores: Whether groups are stored.
    """

    def __init__(self, config: RunConfig, workers: Workers, *, stores: bool) -> None:
        tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self._config = config
        self._workers = workers
        self._sets = {
            source.name: prompts.read_prompts((source,), config, tokenizer)
            for source in config.eval.sources
        }
        self._headers = (
            {source.name: _header(config, tokenizer, source) for source in config.eval.sources}
            if stores
            else {}
        )

    async def __call__(self, label: str) -> Metrics:
        """Evaluate on every set; return the figures under `eval/SET/`.

        Raises:
            OaplError: See `Workers.evaluate`.
        """
        config = self._config.eval
        metrics: Metrics = {}
        sampling = of_evaluations(self._config)
        for name, questions in self._sets.items():
            answers = await self._workers.evaluate(
                questions, sampling, config.num_samples, config.greedy
            )
            metrics |= summarise(name, answers, config.ks, config.threshold)
            self._write(label, name, answers)
            if header := self._headers.get(name):
                folder = self._folder / label / name
                storing = (folder, header, answers, sampling, config.threshold)
                await asyncio.to_thread(stored_answers.store, *storing)
        return metrics

    @property
    def _folder(self) -> Path:
        return self._config.folder / "evaluations"

    def _write(self, label: str, name: str, answers: Sequence[EvalAnswers]) -> None:
        folder = self._folder
        folder.mkdir(exist_ok=True)
        with (folder / f"{label}.{name}.jsonl").open("w") as file:
            for answer in answers:
                file.write(json.dumps(_row(answer)) + "\n")


def _header(config: RunConfig, tokenizer: Any, source: DataSource) -> Header:
    """What the groups of an evaluation set say of themselves: they have its template alone."""
    made = header_of(config, tokenizer, made_by="eval", logprobs="sampled")
    template = of_template(choose(config.data, tokenizer, source))
    return dataclasses.replace(made, template=template)


def _row(answer: EvalAnswers) -> dict[str, Any]:
    pairs = zip(answer.rollouts, answer.judgements, strict=True)
    row: dict[str, Any] = {
        "id": answer.prompt.id,
        "question": answer.prompt.question,
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

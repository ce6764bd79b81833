"""The evaluation of what the engines hold, on every set of `eval.sources`.

Invariant: an evaluation leaves behind every answer that its figures were made of: as text always,
as stored groups where that is asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.data import prompts
from actors.data.fingerprints import header_of, of_template
from actors.data.templates import choose
from actors.data.tokenizer import load_tokenizer
from deploy.run import stored_answers, text_answers
from deploy.run.evaluation_files import ANSWERS, Made
from deploy.run.workers import Workers
from oapl.config import RunConfig
from oapl.config.sections import DataSource
from oapl.evaluation import Protocol, score_of, summarise
from oapl.groups_file import Header
from oapl.records import EvalAnswers, Metrics
from oapl.sampling import protocol_of


class Evaluator:
    """Evaluates when it is called, and keeps the answers in `evaluations/LABEL.SET.jsonl`, beside
    them in `LABEL.SET.json` how they were made; as stored groups, with the pass rate of each
    problem, in `evaluations/LABEL/SET/`.

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
        self._protocols = {
            source.name: protocol_of(config, source) for source in config.eval.sources
        }
        self._headers = (
            {source.name: _header(config, tokenizer, source) for source in config.eval.sources}
            if stores
            else {}
        )

    async def __call__(self, label: str) -> Metrics:
        """Evaluate on every set; return the figures under `eval/SET/`, and of several sets the
        mean of their scores, `eval/score`.

        Raises:
            OaplError: See `Workers.evaluate`.
        """
        metrics: Metrics = {}
        for name, questions in self._sets.items():
            protocol = self._protocols[name]
            answers = await self._workers.evaluate(
                questions, protocol.sampling, protocol.num_samples, protocol.greedy
            )
            metrics |= await asyncio.to_thread(self._measured, label, name, answers, protocol)
        score = score_of(metrics)
        if score is not None and len(self._sets) > 1:
            metrics["eval/score"] = score
        return metrics

    def _measured(
        self, label: str, name: str, answers: Sequence[EvalAnswers], protocol: Protocol
    ) -> Metrics:
        """Keep the answers to a set, and measure them."""
        made = Made.of(name, protocol, answers)
        text_answers.write(self._folder, label, made, answers)
        if header := self._headers.get(name):
            stored_answers.store(self._folder / label / name, header, answers, made)
        return summarise(name, answers, protocol)

    @property
    def _folder(self) -> Path:
        return self._config.folder / ANSWERS


def _header(config: RunConfig, tokenizer: Any, source: DataSource) -> Header:
    """What the groups of an evaluation set say of themselves: they have its template alone."""
    made = header_of(config, tokenizer, made_by="eval", logprobs="sampled")
    template = of_template(choose(config.data, tokenizer, source))
    return dataclasses.replace(made, template=template)

"""The evaluation of what the engines hold, on every set of `eval.sources`.

Invariants: an evaluation leaves behind every answer that its figures were made of: as text always,
as stored groups where that is asked for; of one that was killed, and is to be gone on with, nothing
that was judged is asked again (`answer_log`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data import prompts
from actors.data.fingerprints import header_of, of_template
from actors.data.templates import choose
from actors.data.tokenizer import load_tokenizer
from deploy.run import answer_log, stored_answers, text_answers
from deploy.run.evaluation_files import ANSWERS, Made
from deploy.run.workers import Workers
from oapl.config import RunConfig
from oapl.config.sections import EvalSource
from oapl.evaluation import Protocol, score_of, summarise
from oapl.groups_file import Header, Logprobs
from oapl.records import EvalAnswers, Metrics, Prompt
from oapl.sampling import protocol_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What is asked of one evaluation set.

    Attributes:
        name: The set's.
        questions: Its problems.
        protocol: How each is answered and judged.
    """

    name: str
    questions: Sequence[Prompt]
    protocol: Protocol


class Evaluator:
    """Evaluates when it is called, and keeps the answers in `evaluations/LABEL.SET.jsonl`, beside
    them in `LABEL.SET.json` how they were made; as stored groups, with the pass rate of each
    problem, in `evaluations/LABEL/SET/`.

    Args:
        config: The run.
        workers: Answer and have judged.
        stores: Whether groups are stored.
        tell: Takes lines for the person who watches; None where a killed evaluation begins anew,
            and is not gone on with.
    """

    def __init__(
        self,
        config: RunConfig,
        workers: Workers,
        *,
        stores: bool,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self._config = config
        self._workers = workers
        self._tell = tell
        self._exams = [
            Exam(
                name=source.name,
                questions=prompts.read_prompts((source,), config, tokenizer),
                protocol=protocol_of(config, source),
            )
            for source in config.eval.sources
        ]
        self._headers = (
            {source.name: _header(config, tokenizer, source) for source in config.eval.sources}
            if stores
            else {}
        )

    async def __call__(self, label: str, slots: int = 0) -> Metrics:
        """Evaluate on every set; return the figures under `eval/SET/`, and of several sets the
        mean of their scores, `eval/score`.

        Args:
            label: Of the answers that it leaves.
            slots: As of `oapl.loops.evaluate`.

        Raises:
            OaplError: See `Workers.evaluate`.
        """
        metrics: Metrics = {}
        for exam in self._exams:
            answers = await self._answers(label, exam, slots)
            # In a thread: training may go on in this one.
            metrics |= await asyncio.to_thread(self._measured, label, exam, answers)
        score = score_of(metrics)
        if score is not None and len(self._exams) > 1:
            metrics["eval/score"] = score
        answer_log.remove(self._folder, label)
        return metrics

    def _measured(self, label: str, exam: Exam, answers: Sequence[EvalAnswers]) -> Metrics:
        """Keep the answers to a set, and measure them."""
        made = Made.of(exam.name, exam.protocol, answers)
        text_answers.write(self._folder, label, made, answers)
        if header := self._headers.get(exam.name):
            stored_answers.store(self._folder / label / exam.name, header, answers, made)
        return summarise(exam.name, answers, exam.protocol)

    async def _answers(self, label: str, exam: Exam, slots: int) -> Sequence[EvalAnswers]:
        """Of every problem; what a killed evaluation has left is not asked again."""
        protocol = exam.protocol
        if self._tell is None:
            return await self._workers.evaluate(exam.questions, protocol, slots=slots)
        recipe = answer_log.recipe_of(self._config, exam.questions, protocol)
        with answer_log.opened(self._folder, label, exam.name, recipe) as log:
            found = {
                prompt.id: log.answers[prompt.id]
                for prompt in exam.questions
                if prompt.id in log.answers
            }
            if found:
                total = len(exam.questions)
                self._tell(
                    f"{exam.name}: going on, {len(found):,} of {total:,} problems are answered"
                )
            rest = [prompt for prompt in exam.questions if prompt.id not in found]
            if rest:
                made = await self._workers.evaluate(rest, protocol, log.add)
                found |= {answers.prompt.id: answers for answers in made}
        return [found[prompt.id] for prompt in exam.questions]

    @property
    def _folder(self) -> Path:
        return self._config.folder / ANSWERS


def _header(config: RunConfig, tokenizer: Any, source: EvalSource) -> Header:
    """What the groups of an evaluation set say of themselves: they have its template alone, and no
    log-probs where an endpoint has answered."""
    logprobs: Logprobs | None = None if config.eval.endpoint else "sampled"
    made = header_of(config, tokenizer, made_by="eval", logprobs=logprobs)
    template = of_template(choose(config.data, tokenizer, source))
    return dataclasses.replace(made, template=template)

"""Stored answers judged once more, without generating: by the verifiers as they are now.

A few calls of a few responses are under way at a time, as in a run; nothing of Ray is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout
from reward_server import server, settings

CHUNK = 8
"""Responses a call."""
CALLS = 64

Task = tuple[Prompt, Rollout]


def rejudged(config: RunConfig, sets: Sequence[Sequence[EvalAnswers]]) -> list[list[EvalAnswers]]:
    """Judge the answers of evaluation sets once more.

    Args:
        config: Says what judges: the verifiers of the evaluation set of a problem's name, and their
            options; a set that it does not name keeps the verifiers that its problems came with.
        sets: Per set one record per problem.

    Returns:
        The same with other judgements.

    Raises:
        InputError: A verifier or its options cannot be used.
    """
    server.check(config)
    asked = [[_asked(config, answers) for answers in one] for one in sets]
    _demand_in_use(config, asked)
    tasks = [task for one in asked for answers in one for task in _tasks(answers)]
    judgements = iter(asyncio.run(_judge(server.prepare(config), tasks)))
    return [[_with(answers, judgements) for answers in one] for one in asked]


def _asked(config: RunConfig, answers: EvalAnswers) -> EvalAnswers:
    named = {source.name: source for source in config.eval.sources}
    source = named.get(answers.prompt.source)
    if source is None:
        return answers
    verifiers = dict(source.verifiers or config.reward.verifiers)
    return replace(answers, prompt=replace(answers.prompt, verifiers=verifiers))


def _demand_in_use(config: RunConfig, sets: Sequence[Sequence[EvalAnswers]]) -> None:
    """Refuse answers whose verifier the settings do not name: nobody would judge them."""
    known = [one.name for one in settings.in_use(config)]
    for answers in (answers for one in sets for answers in one):
        for name in answers.prompt.verifiers:
            if name not in known:
                raise InputError(
                    f"{answers.prompt.id}: is judged by the verifier {name}, which the settings do "
                    f"not name (they name {', '.join(known)}); name it in reward.verifiers, or "
                    f"give the recipe whose evaluation set {answers.prompt.source!r} it is"
                )


def _tasks(answers: EvalAnswers) -> list[Task]:
    rollouts = [*answers.rollouts, *([answers.greedy] if answers.greedy is not None else [])]
    return [(answers.prompt, rollout) for rollout in rollouts]


def _with(answers: EvalAnswers, judgements: Iterator[Judgement]) -> EvalAnswers:
    of_samples = tuple(next(judgements) for _ in answers.rollouts)
    of_greedy = next(judgements) if answers.greedy is not None else None
    return replace(answers, judgements=of_samples, greedy_judgement=of_greedy)


async def _judge(config: RunConfig, tasks: Sequence[Task]) -> list[Judgement]:
    running, places = server.build(config), asyncio.Semaphore(CALLS)

    async def call(part: Sequence[Task]) -> list[Judgement]:
        async with places:
            return await running.score(part)

    try:
        parts = [tasks[begin : begin + CHUNK] for begin in range(0, len(tasks), CHUNK)]
        found = await asyncio.gather(*map(call, parts))
    finally:
        await running.close()
    return [judgement for part in found for judgement in part]

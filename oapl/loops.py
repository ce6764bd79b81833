"""Algorithm 1 of OAPL (arXiv 2602.19362), asynchronous: `collect` per worker beside one `learn`.

    every L steps:  clear the buffer, publish pi to every engine             (learn)
    meanwhile:      sample groups of G from pi_vllm, score them, buffer them (collect)
    every step:     take a batch, minimise (beta2 ln(pi/pi_vllm) - (r - V*))^2  (learn)

Between two publications neither waits for the other, but for a period's first batch and its last
groups; `max_lead` removes these waits too, at more lag, by publishing before the period's end. So
does `replay.max_versions` > 1: a period begins with the surplus of the one before.
Invariants: every prompt that `collect` is handed goes back to replay exactly once, as
`put`, `give_back` or `fail`; a group is of one version or it is not put.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from oapl.interfaces import Batches, Engine, Replay, Scorer, Worker
from oapl.records import (
    CreditedGroup,
    EvalAnswers,
    Group,
    Judgement,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    WorkerId,
)
from oapl.remote.batched_calls import BatchedCalls

T = TypeVar("T")
Put = BatchedCalls[ScoredGroup, str]

POLL_S = 1.0
"""How long replay may hold a worker's question before it answers with nothing."""


class Learner(Protocol):
    """The acts of the learner's half; `learner.group.LearnerGroup` is the real one.

    Attributes:
        step: Learner steps made.
    """

    step: int

    @property
    def begin(self) -> int:
        """Step at which the period that the published version feeds begins; -1 before the first
        publication, above `step` after one that came ahead of its period."""

    async def checkpoint_if_due(self) -> None: ...

    async def publish(self, begin: int) -> None:
        """Give the weights of `step` to the engines, for the period that begins at `begin`.

        Returns once an engine holds them, or, where there are other groups to train on (ahead of
        the period, or with several versions), once they have left the learner.
        """

    async def update(self, groups: Sequence[CreditedGroup]) -> bool:
        """One learner step; False when it was skipped for a non-finite loss or gradient."""

    async def report(self) -> None: ...


async def learn(
    learner: Learner,
    *,
    replay: Batches,
    groups_per_step: int,
    interval: int,
    max_steps: int,
    timeout_s: float,
    stop: asyncio.Event,
    max_lead: int = 0,
) -> None:
    """The learner's half: until `max_steps`, the end of the data, or a request to stop.

    With `max_lead` 0 this is Algorithm 1, step for step. Else the next version is published, and
    its own buffer begins to fill, when the present period has all its groups and at most so many of
    its steps are untrained.

    Raises:
        DeadlineError: No batch came within `timeout_s`.
    """
    while learner.step < max_steps and not stop.is_set():
        is_boundary = learner.step % interval == 0
        if is_boundary and learner.begin < learner.step:
            await replay.advance(learner.step)  # clears; hands out nothing until an engine has it
            await learner.checkpoint_if_due()
            await learner.publish(learner.step)
        elif is_boundary:  # this period's version was published ahead
            await learner.checkpoint_if_due()
        groups = await _unless(stop, replay.take(groups_per_step, timeout_s))
        if groups is None:
            return
        following = (learner.step // interval + 1) * interval
        is_in_reach = following - learner.step <= max_lead and following < max_steps
        may_lead = is_in_reach and learner.begin <= learner.step
        if may_lead and await replay.lead(learner.step, following):
            await learner.publish(following)
        ids = [group.id for group in groups]
        if await learner.update(groups):
            await replay.trained(ids, learner.step)
        else:
            await replay.drop(ids, "non_finite", learner.step)
        await learner.report()


async def _unless(stop: asyncio.Event, wait: Awaitable[T]) -> T | None:
    """What `wait` brings, or None when `stop` is set first.

    Groups that a take leases after that are still replay's: a snapshot counts them as buffered.
    """
    waiting, stopping = asyncio.ensure_future(wait), asyncio.ensure_future(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if waiting.done():
        return waiting.result()
    waiting.cancel()
    return None


async def collect(
    worker: WorkerId,
    *,
    engine: Engine,
    scorer: Scorer,
    replay: Replay,
    sampling: Sampling,
    group_size: int,
    max_groups_in_flight: int,
    stop: asyncio.Event,
) -> None:
    """The actor's half, for the version that the engine holds now.

    Returns when replay no longer serves that version, or on `stop`.

    Raises:
        RuntimeError: The engine failed; every prompt has been given back.
    """
    version = engine.version
    running: set[asyncio.Task[None]] = set()
    # Groups that are put together end together, so their successors are handed out together too.
    put: Put = BatchedCalls(partial(replay.put, worker))

    async def make(prompt: Prompt) -> None:
        await _make_group(
            worker, version, prompt, engine, scorer, replay, put, sampling, group_size
        )

    try:
        while not stop.is_set():
            if len(running) < max_groups_in_flight:
                room = max_groups_in_flight - len(running)
                prompts = await replay.next_prompts(worker, version, room, POLL_S)
                if prompts is None:
                    break
                running |= {asyncio.create_task(make(prompt)) for prompt in prompts}
            else:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                running.remove(task)
                task.result()
    finally:
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _make_group(
    worker: WorkerId,
    version: int,
    prompt: Prompt,
    engine: Engine,
    scorer: Scorer,
    replay: Replay,
    put: Put,
    sampling: Sampling,
    group_size: int,
) -> None:
    """Sample and score the G rollouts of one prompt, each scored as it ends; hand in the group."""
    started = time.monotonic()
    done: list[Rollout] = []

    async def one() -> tuple[Rollout, Judgement | None]:
        rollout = await engine.generate(prompt, sampling)
        done.append(rollout)
        if rollout.finish_reason == "abort" or rollout.last_version != version:
            return rollout, None
        return rollout, (await scorer.score([(prompt, rollout)]))[0]

    answers = await asyncio.gather(*(one() for _ in range(group_size)), return_exceptions=True)
    wasted = sum(len(rollout.token_ids) for rollout in done)
    for answer in answers:
        if isinstance(answer, ValueError):  # the prompt's own fault: it does not fit the engine
            await replay.fail(worker, prompt, str(answer), wasted)
            return
        if isinstance(answer, BaseException):
            await replay.give_back(worker, prompt, "engine_failed", wasted)
            raise answer
    rollouts, judgements = zip(*answers, strict=True)  # type: ignore[arg-type]
    if None in judgements:
        await replay.give_back(worker, prompt, "aborted", wasted)
        return
    failures = [judgement.failure for judgement in judgements if judgement.failure]
    if failures:
        await replay.fail(worker, prompt, failures[0], wasted)
        return
    group = Group(
        prompt=prompt,
        rollouts=rollouts,
        version=version,
        sampling=sampling,
        seconds=time.monotonic() - started,
    )
    await put([_scored(group, judgements)])


def _scored(group: Group, judgements: Sequence[Judgement]) -> ScoredGroup:

    rewards = np.array([judgement.reward for judgement in judgements], dtype=np.float32)
    verdicts = tuple(judgement.verdicts for judgement in judgements)
    return ScoredGroup(group=group, rewards=rewards, verdicts=verdicts)


async def evaluate(
    workers: Sequence[Worker],
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    num_samples: int,
    greedy: bool,
) -> list[EvalAnswers]:
    """Answer and judge every prompt `num_samples` times, spread evenly over the workers.

    Returns:
        One record per prompt, in the order of `prompts`.
    """
    shares = [prompts[index :: len(workers)] for index in range(len(workers))]
    parts = await asyncio.gather(
        *(
            worker.evaluate(share, sampling, num_samples, greedy)
            for worker, share in zip(workers, shares, strict=True)
        )
    )
    by_id = {answers.prompt.id: answers for part in parts for answers in part}
    return [by_id[prompt.id] for prompt in prompts]

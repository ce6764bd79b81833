"""Algorithm 1 of OAPL (arXiv 2602.19362), asynchronous: `collect` per worker beside one `learn`.

    every L steps:  clear the buffer, publish pi to every engine             (learn)
    meanwhile:      sample groups of G from pi_vllm, score them, buffer them (collect)
    every step:     take a batch, minimise (beta2 ln(pi/pi_vllm) - (r - V*))^2  (learn)

Other objectives make several steps of a take (an iteration), of its mini-batches, once or more.

Between two publications neither waits for the other, but for a period's first batch and its last
groups; `max_lead` removes these waits too, at more lag, by publishing before the period's end. So
does `replay.max_versions` > 1: a period begins with the surplus of the one before.
Invariants: every prompt that `collect` is handed goes back to replay exactly once, as
`put`, `give_back`, `hand_over` or `fail`; a group is of one version or it is not put.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from oapl.evaluation.protocol import Protocol
from oapl.interfaces import Answering, Batches, Engine, Learner, Replay, Scorer
from oapl.records import (
    CreditedGroup,
    EvalAnswers,
    Group,
    Judgement,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    Terms,
    Unfinished,
    WorkerId,
)
from oapl.remote.batched_calls import BatchedCalls
from oapl.remote.waiting import unless

Take = Callable[[float], Awaitable[Sequence[CreditedGroup] | None]]
"""A wait for a batch, of at most so many seconds."""
Outlast = Callable[[Take, float], Awaitable[Sequence[CreditedGroup] | None]]
_Answer = tuple[Rollout | None, Judgement | None]
"""A rollout so far, and its judgement once it has ended."""

CALLS = 128
"""Of an evaluation, to one worker at a time: enough to keep its engine full, far below what a
process takes in at a time."""
ANSWERS_PER_CALL = 16
"""Of one of them; a problem that is asked more often is a call of its own."""
POLL_S = 1.0
"""How long replay may hold a worker's question before it answers with nothing."""


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
    mini_batches: int = 1,
    moves: bool = False,
    outlast: Outlast | None = None,
) -> None:
    """Run the learner's half until `max_steps`, the end of the data, or a request to stop.

    Publications, checkpoints and stops fall between iterations.

    With `max_lead` 0 this is Algorithm 1, step for step. Else the next version is published, and
    its own buffer begins to fill, when the present period has all its groups, or with `moves` the
    last of them fit on few engines, and at most so many of its steps are untrained.

    Args:
        learner: Its acts, in the order of the algorithm.
        replay: Where groups are taken from.
        groups_per_step: Groups of one learner step.
        interval: L, learner steps from one publication to the next.
        max_steps: Learner steps of the run.
        timeout_s: Longest wait for a batch.
        stop: Set to end between two iterations.
        max_lead: Most learner steps by which a publication may precede its period.
        mini_batches: Parts of a take, a learner step each.
        moves: The next version may be published while few engines end the present period's last
            groups.
        outlast: Makes the wait for a batch, and makes it again while who shall bring it is being
            replaced.

    Raises:
        DeadlineError: No batch came within `timeout_s`.
    """
    while learner.step < max_steps and not stop.is_set():
        is_boundary = learner.step % interval == 0
        is_unserved = learner.begin < 0  # at the start, and at a resume between two boundaries
        if is_unserved or (is_boundary and learner.begin < learner.step):
            await replay.advance(learner.step)  # clears; hands out nothing until an engine has it
            await learner.checkpoint_if_due()
            await learner.publish(learner.step)
        elif is_boundary:  # this period's version was published ahead
            await learner.checkpoint_if_due()
        await learner.evaluate_if_due()
        following = (learner.step // interval + 1) * interval
        left = min(following, max_steps) - learner.step
        # What a take leases after a stop is still replay's: a snapshot counts it as buffered.
        is_in_reach = following - learner.step <= max_lead and following < max_steps
        count = groups_per_step * min(mini_batches, left)
        groups: Sequence[CreditedGroup] | None = []
        while not groups:  # while the last of them are moved, the next version goes first
            may_lead = is_in_reach and learner.begin <= learner.step
            ahead = (following,) if may_lead and moves else ()
            take = partial(_take, replay, count, ahead)
            groups = await unless(stop, outlast(take, timeout_s) if outlast else take(timeout_s))
            if groups is None:
                return
            if may_lead and await replay.lead(learner.step, following):
                await learner.publish(following)
        await _iterate(learner, replay, groups, left)


async def _take(
    replay: Batches, count: int, ahead: tuple[int, ...], timeout_s: float
) -> Sequence[CreditedGroup] | None:
    return await replay.take(count, timeout_s, *ahead)


async def _iterate(
    learner: Learner, replay: Batches, groups: Sequence[CreditedGroup], max_steps: int
) -> None:
    """Make the learner steps of a take, at most `max_steps`, and close its leases.

    What replay has lent of earlier iterations has its fate, and no lease.
    """
    parts = (await learner.prepare(groups))[:max_steps]
    trained: set[str] = set()
    for number, part in enumerate(parts, 1):
        if await learner.update(part):
            trained.update(group.id for group in part.groups)
        if number == len(parts):
            ids = [group.id for group in groups if not group.is_history]
            if kept := [id for id in ids if id in trained]:
                await replay.trained(kept, learner.step)
            if skipped := [id for id in ids if id not in trained]:
                await replay.drop(skipped, "non_finite", learner.step)
        await learner.report()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Collector:
    """What all groups have in common that `collect` makes under one version.

    Attributes:
        put: `replay.put` of this worker. Groups that are put together end together, so their
            successors are handed out together too.
        moves: What a load cuts off may go on elsewhere.
    """

    worker: WorkerId
    version: int
    engine: Engine
    scorer: Scorer
    replay: Replay
    put: BatchedCalls[ScoredGroup, str]
    sampling: Sampling
    group_size: int
    moves: bool


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
    moves: bool = False,
) -> None:
    """Run the actor's half, for the version that the engine holds now.

    Returns when replay no longer serves that version, or on `stop`.

    Args:
        worker: In whose name prompts are asked for.
        engine: Loaded, and within its probe's bound.
        scorer: Asked for each rollout as it ends.
        replay: Hands out prompts and takes groups.
        sampling: Of every rollout.
        group_size: G, rollouts per prompt.
        max_groups_in_flight: Most prompts that this engine holds at a time.
        stop: Set to end as soon as what is in flight has ended.
        moves: Hand over what a load cuts off, instead of giving it back.

    Raises:
        EngineError: The engine failed; every prompt has been given back.
        StaleError: Replay has released this worker.
    """
    collector = _Collector(
        worker=worker,
        version=engine.version,
        engine=engine,
        scorer=scorer,
        replay=replay,
        put=BatchedCalls(partial(replay.put, worker)),
        sampling=sampling,
        group_size=group_size,
        moves=moves,
    )
    running: set[asyncio.Task[None]] = set()
    try:
        while not stop.is_set():
            if (room := max_groups_in_flight - len(running)) > 0:
                prompts = await replay.next_prompts(worker, collector.version, room, POLL_S)
                if prompts is None:
                    break
                running |= {asyncio.create_task(_make(collector, one)) for one in prompts}
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


async def _make(collector: _Collector, handed: Prompt | Unfinished) -> None:
    if isinstance(handed, Prompt):
        nothing: list[_Answer] = [(None, None)] * collector.group_size
        await _make_group(collector, handed, nothing)
    else:
        so_far = list(zip(handed.rollouts, handed.judgements, strict=True))
        await _make_group(collector, handed.prompt, so_far, handed.seconds)


async def _make_group(
    collector: _Collector, prompt: Prompt, so_far: Sequence[_Answer], seconds: float = 0.0
) -> None:
    """Sample and score the G rollouts of one prompt, each scored as it ends; hand in the group."""
    started = time.monotonic() - seconds
    done: list[Rollout] = []

    async def one(
        begun: Rollout | None, judged: Judgement | None
    ) -> tuple[Rollout, Judgement | None]:
        if begun is not None and judged is not None:
            done.append(begun)
            return begun, judged
        asked = (begun,) if begun is not None and len(begun.token_ids) else ()
        rollout = await collector.engine.generate(prompt, collector.sampling, *asked)
        done.append(rollout)
        if rollout.finish_reason == "abort" or rollout.last_version != collector.version:
            return rollout, None
        return rollout, (await collector.scorer.score([(prompt, rollout)]))[0]

    answers = await asyncio.gather(*(one(*answer) for answer in so_far), return_exceptions=True)
    wasted = sum(len(rollout.token_ids) for rollout in done)
    for answer in answers:
        if isinstance(answer, ValueError):  # the prompt's own fault: it does not fit the engine
            await collector.replay.fail(collector.worker, prompt, str(answer), wasted)
            return
        if isinstance(answer, BaseException):
            await collector.replay.give_back(collector.worker, prompt, "engine_failed", wasted)
            raise answer
    rollouts, judgements = zip(*answers, strict=True)  # type: ignore[arg-type]
    if None in judgements and not collector.moves:
        await collector.replay.give_back(collector.worker, prompt, "aborted", wasted)
        return
    failures = [judgement.failure for judgement in judgements if judgement and judgement.failure]
    if failures:
        await collector.replay.fail(collector.worker, prompt, failures[0], wasted)
        return
    seconds = time.monotonic() - started
    if None in judgements:
        unfinished = Unfinished(
            prompt=prompt, rollouts=rollouts, judgements=judgements, seconds=seconds
        )
        await collector.replay.hand_over(collector.worker, unfinished)
        return
    group = Group(
        prompt=prompt,
        rollouts=rollouts,
        version=collector.version,
        sampling=collector.sampling,
        seconds=seconds,
    )
    await collector.put([_scored(group, judgements)])


def _scored(group: Group, judgements: Sequence[Judgement]) -> ScoredGroup:
    rewards = np.array([judgement.reward for judgement in judgements], dtype=np.float32)
    verdicts = tuple(judgement.verdicts for judgement in judgements)
    return ScoredGroup(group=group, rewards=rewards, verdicts=verdicts)


async def evaluate(
    workers: Sequence[Answering],
    prompts: Sequence[Prompt],
    *,
    protocol: Protocol,
    answered: Callable[[EvalAnswers], None],
    timeout_s: float,
    slots: int = 0,
) -> None:
    """Answer and judge every prompt, by whichever worker has room for it.

    Args:
        workers: Handles, at least one; all hold the version to be evaluated.
        prompts: In the order in which they are asked.
        protocol: How each is answered.
        answered: Is given the answers of each prompt as they come.
        timeout_s: Of the whole; no worker goes on beyond it.
        slots: Beside rollouts: a worker makes so many answers at once, those of one prompt at
            least, and they give way to a load. 0: it does nothing else.

    Raises:
        Exception: What a worker raised first; the others have answered what they could.
    """
    per_prompt = protocol.num_samples + protocol.greedy
    each = max(1, min(slots or ANSWERS_PER_CALL, ANSWERS_PER_CALL) // per_prompt)
    calls = min(CALLS, max(1, slots // (each * per_prompt))) if slots else CALLS
    terms = Terms(
        sampling=protocol.sampling,
        num_samples=protocol.num_samples,
        greedy=protocol.greedy,
        timeout_s=timeout_s,
        gives_way=slots > 0,
    )
    now = asyncio.get_running_loop().time
    ends_at = now() + timeout_s
    waiting = deque(prompts[at : at + each] for at in range(0, len(prompts), each))

    async def ask(worker: Answering) -> None:
        while waiting:
            share = waiting.popleft()
            try:
                left_s = max(0.0, ends_at - now())
                made = await worker.evaluate(share, replace(terms, timeout_s=left_s))
            except BaseException:
                waiting.appendleft(share)
                raise
            for answers in made:
                answered(answers)

    asking = [asyncio.create_task(ask(worker)) for _ in range(calls) for worker in workers]
    try:
        for ended in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
    finally:
        for task in asking:
            task.cancel()

"""What is foreseen of a run, and in a sentence what holds it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oapl.planning.task import Task

SLACK = 0.05
"""Waits below this share of the time hold nobody up."""
LARGE = 0.1
"""Share of the time above which publications are named."""
NEAR = 0.8
"""Share of a step that the slower side needs alone, above which it is that side that holds up."""

TOKEN_BYTES = 8
"""Of a response's token in the buffer: its id, and its log-prob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is foreseen of a run; shares are of time unless said otherwise.

    Attributes:
        waits: Of the learner's time, for groups.
        between: Of the learner's time, for publications and messages.
        engine_idle: Places in engines that stand empty.
        wasted: Of the tokens that engines make, those thrown away at publications.
        mean_lag, largest_lag: Of the batches simulated, in learner steps.
        step_s: From one learner step to the next, waits and publications included.
        learner_s, engines_s: What a step would take if either side never waited for the other: the
            learner's own work, and the engines' when full.
        hours, making_hours: To the last learner step; and of the rollouts made before, where they
            are stored.
        device_hours: All devices of the machine in all these hours.
        tokens_per_s: That the engines make.
        publish_s: By transport, of one publication.
        reward_load, replay_load: Work that would come over what can be done; above 1 the run is so
            many times slower, which shares and lags do not show.
        scale: How many times smaller than the run the simulation was.
        bottleneck: A sentence.
    """

    waits: float
    between: float
    engine_idle: float
    wasted: float
    mean_lag: float
    largest_lag: int
    step_s: float
    learner_s: float
    engines_s: float
    hours: float
    making_hours: float
    device_hours: float
    tokens_per_s: float
    publish_s: Mapping[str, float]
    reward_load: float
    replay_load: float
    scale: int
    bottleneck: str


def sentence(found: Forecast, task: Task, *, published: float, group_tokens: float) -> str:
    """Say what holds a run up, by which figures, and what helps.

    Args:
        found: Of the run; its own sentence is not read.
        task: The run.
        published: Share of the time in which weights are published.
        group_tokens: Of a group, all its responses.
    """
    if found.reward_load > 1:
        return (
            f"The reward servers: {found.reward_load:.2f} times what their {task.judges} processes "
            "can judge would come in; hours are so many times those without that wait, which idle "
            "shares do not count; raise reward.workers."
        )
    if found.replay_load > 1:
        return (
            f"The replay buffer: {found.replay_load:.2f} times the tokens that go through it; "
            "hours are so many times those without that wait; fewer engines, or shorter rollouts."
        )
    if published > max(LARGE, found.waits):
        return f"Publications: {published:.0%} of the time; a longer L, or another transport."
    slower = max(found.learner_s, found.engines_s) / found.step_s
    if found.waits < SLACK or (slower > NEAR and found.learner_s > found.engines_s):
        works = 1 - found.waits - found.between
        return (
            f"The learner: it works {works:.0%} of the time, and engines' places stand empty "
            f"{found.engine_idle:.0%} of it; more ranks, fewer engines."
        )
    if slower > NEAR:
        return (
            f"The engines: full, they need {found.engines_s:.3g} s for the rollouts of a step, the "
            f"learner {found.learner_s:.3g} s for the step; more engines, fewer ranks."
        )
    if task.is_narrow:
        room = task.capacity * group_tokens * TOKEN_BYTES / 2**30
        return (
            f"The replay buffer's capacity: its {task.capacity:,} groups, buffered and in flight, "
            f"are fewer than {task.engines} engines hold beside a take; raise replay.capacity (so "
            f"many groups are {room:.1f} GiB)."
        )
    helps = "L belongs to the objective"
    if not task.is_bound:
        more = "" if task.moves or task.engines < 2 else ", with stragglers moved"
        helps = f"a longer L, a surplus or a lead{more}"
    return (
        f"The ends of periods: a step needs {found.learner_s:.3g} s of the learner and "
        f"{found.engines_s:.3g} s of full engines, but takes {found.step_s:.3g} s, since a period "
        f"waits for its longest rollouts; {helps}."
    )


def stored_sentence(hours: float, making: float, engines: int) -> str:
    """Say what holds up a run on stored rollouts.

    Args:
        hours: Of training.
        making: Hours of making the rollouts.
        engines: That made them.
    """
    if making > hours:
        return (
            f"Making the rollouts: {making:.3g} h on {engines} engines, {hours:.3g} h of training; "
            "more devices, or shorter answers."
        )
    return f"The learner, for {hours:.3g} h: nothing else is at work; more ranks, or faster ones."

"""From a task and rates, by simulation, to hours, idle time, loads, and what holds the run up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from oapl.planning import publication
from oapl.planning.lengths import Table
from oapl.planning.rates import Rates
from oapl.planning.setting import Setting, Shares
from oapl.planning.simulation import Simulation
from oapl.planning.task import Task, setting_of

HOUR_S = 3600.0
PERIODS, TAKES = 3, 24
"""Least periods, and takes, that are simulated and measured behind the first period."""
GROUPS = 30_000
"""Groups that a simulation makes, about; a larger run is simulated at a fraction of its size."""
SMALLEST = 16
"""Groups of a learner step below which no run is made smaller: few groups end more by chance."""
SLACK = 0.05
"""Waits below this share of the time hold nobody up."""
LARGE = 0.1
"""Share of the time above which publications are named."""
NEAR = 0.8
"""Share of a step that the slower side needs alone, above which it is that side that holds up."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """One phase as simulated: its shares, its whole time, seconds a step, groups of a take made."""

    shares: Shares
    seconds: float
    step_s: float
    fresh: int
    steps: int


def forecast(task: Task, rates: Rates, lengths: Table, *, groups: int = GROUPS) -> Forecast:
    """Foresee a run.

    Args:
        task: What it is.
        rates: Of its machines.
        lengths: Of its groups, G rollouts each.
        groups: See `GROUPS`.
    """
    if not task.engines:
        return _stored(task, rates, lengths)
    times = {name: publication.seconds(task, rates, name) for name in publication.TRANSPORTS}
    publish_s = times.get(task.transport, publication.seconds(task, rates, task.transport))
    phases, scale = [], 1
    for steps, fresh in task.phases:
        setting = setting_of(task, rates, lengths, fresh=fresh, publish_s=publish_s)
        phase, factor = _simulated(setting, lengths, steps, groups)
        phases.append(phase)
        scale = max(scale, factor)
    total_s = sum(phase.seconds for phase in phases)
    weights = [phase.seconds / total_s for phase in phases]

    def mean(name: str) -> float:
        return sum(w * getattr(p.shares, name) for w, p in zip(weights, phases, strict=True))

    made = sum(p.steps / task.steps_per_take * p.fresh for p in phases) / rates.kept.value
    tokens = made * lengths.mean_total / max(1 - mean("wasted"), 1e-9)
    reward_load = made * task.group_size * rates.judge_s.value / task.judges / total_s
    replay_load = tokens / rates.replay_tokens_per_s.value / total_s
    total_s *= max(1.0, reward_load, replay_load)
    hours = total_s / HOUR_S
    steps = sum(phase.steps for phase in phases)
    learner_s = _learner_s(task, rates, lengths)
    engines_s = made * lengths.mean_total / steps / _peak(task, rates)
    found = {
        "waits": max(mean("learner") - mean("between"), 0.0),
        "between": mean("between"),
        "engine_idle": mean("engine"),
        "wasted": mean("wasted"),
        "mean_lag": mean("mean_lag"),
        "step_s": total_s / steps,
        "learner_s": learner_s,
        "engines_s": engines_s,
        "reward_load": reward_load,
        "replay_load": replay_load,
    }
    share = publish_s / (task.interval * found["step_s"])
    return Forecast(
        **found,
        largest_lag=max(phase.shares.largest_lag for phase in phases),
        hours=hours,
        making_hours=0.0,
        device_hours=hours * task.devices,
        tokens_per_s=tokens / total_s,
        publish_s=times,
        scale=scale,
        bottleneck=_bottleneck(found, share, task),
    )


def bound_s(task: Task, rates: Rates, lengths: Table) -> float:
    """Seconds of a learner step that no setting of L, surplus or lead can undercut.

    Args:
        task, rates, lengths: As in `forecast`; with engines.
    """
    fresh = sum(steps * made for steps, made in task.phases) / sum(s for s, _ in task.phases)
    work = fresh / task.steps_per_take * lengths.mean_total / rates.kept.value
    return max(_learner_s(task, rates, lengths), work / _peak(task, rates))


def _peak(task: Task, rates: Rates) -> float:
    """Tokens that all engines make in a second when full; they may be given too few to be so."""
    return task.engines * rates.engine_tokens_per_s.value


def _learner_s(task: Task, rates: Rates, lengths: Table) -> float:
    """Of a step with groups of average length."""
    tokens = lengths.mean_total + task.group_size * rates.prompt_tokens.value
    rate = rates.learner_tokens_per_s.value * task.ranks
    return rates.step_s.value + rates.between_s.value + task.groups_per_step * tokens / rate


def _simulated(setting: Setting, lengths: Table, steps: int, groups: int) -> tuple[_Phase, int]:
    """Some periods of a phase, made longer to the whole of it; and how many times smaller."""
    per_period = setting.interval // setting.steps_per_take
    periods = 1 + max(PERIODS, math.ceil(TAKES / per_period))
    takes = min(math.ceil(steps / setting.steps_per_take), periods * per_period)
    factor = _factor(setting, takes * setting.made_per_take * (1 + setting.surplus), groups)
    simulated = takes * setting.steps_per_take
    simulation = Simulation(setting.smaller(factor) if factor > 1 else setting, lengths, simulated)
    shares = simulation.run()
    step_s = simulation.measured_time / simulation.measured_steps
    seconds = shares.elapsed + (steps - simulated) * step_s
    phase = _Phase(
        shares=shares, seconds=seconds, step_s=step_s, fresh=setting.made_per_take, steps=steps
    )
    return phase, factor


def _factor(setting: Setting, groups: float, most: int) -> int:
    """The smallest whole number that brings the groups down to `most`, or as far as may be."""
    sizes = (setting.groups_per_step, setting.fresh_per_take)
    fitting = [
        factor
        for factor in range(1, setting.groups_per_step // SMALLEST + 1)
        if not any(size % factor for size in sizes) and setting.slots >= factor
    ]
    enough = [factor for factor in fitting if groups / factor <= most]
    return enough[0] if enough else max(fitting, default=1)


def _stored(task: Task, rates: Rates, lengths: Table) -> Forecast:
    """A run on stored rollouts: all devices make them first, then the ranks train alone."""
    learner_s = _learner_s(task, rates, lengths)
    hours = task.max_steps * learner_s / HOUR_S
    making_s = 0.0
    engines = int(task.devices // task.devices_per_engine) if task.devices_per_engine else 0
    if task.answers and engines:
        making_s = _making_s(task, rates, lengths, engines)
    return Forecast(
        waits=0.0,
        between=rates.between_s.value / learner_s,
        engine_idle=0.0,
        wasted=0.0,
        mean_lag=0.0,
        largest_lag=0,
        step_s=learner_s,
        learner_s=learner_s,
        engines_s=0.0,
        hours=hours,
        making_hours=making_s / HOUR_S,
        device_hours=task.devices * (hours + making_s / HOUR_S),
        tokens_per_s=task.answers * lengths.mean / making_s if making_s else 0.0,
        publish_s={},
        reward_load=task.answers * rates.judge_s.value / task.judges / making_s
        if making_s
        else 0.0,
        replay_load=0.0,
        scale=1,
        bottleneck=_bottleneck_stored(hours, making_s / HOUR_S, engines),
    )


def _making_s(task: Task, rates: Rates, lengths: Table, engines: int) -> float:
    """All engines on one queue of groups to its end: a single period of one take."""
    groups = math.ceil(task.answers / task.group_size)
    factor = max(1, math.ceil(groups / GROUPS))
    setting = Setting(
        interval=1,
        groups_per_step=math.ceil(groups / factor),
        slots=max(1, engines * task.groups_per_engine // factor),
        step=0.0,
        pace=rates.engine_tokens_per_s.value / rates.engine_rollouts.value,
        full=engines * rates.engine_rollouts.value / factor,
        fixed=min(1.0, 1 / rates.alone.value),
    )
    return Simulation(setting, lengths, 1).run().elapsed


def _bottleneck_stored(hours: float, making: float, engines: int) -> str:
    if making > hours:
        return (
            f"Making the rollouts: {making:.3g} h on {engines} engines, {hours:.3g} h of training; "
            "more devices, or shorter answers."
        )
    return f"The learner, for {hours:.3g} h: nothing else is at work; more ranks, or faster ones."


def _bottleneck(found: Mapping[str, float], published: float, task: Task) -> str:
    """The sentence: what, by which figures, and what helps."""
    waits, learner_s, engines_s = (found[key] for key in ("waits", "learner_s", "engines_s"))
    if found["reward_load"] > 1:
        return (
            f"The reward servers: {found['reward_load']:.2f} times what their {task.judges} "
            "processes can judge would come in; hours are so many times those without that wait, "
            "which idle shares do not count; raise reward.workers."
        )
    if found["replay_load"] > 1:
        return (
            f"The replay buffer: {found['replay_load']:.2f} times the tokens that go through it; "
            "hours are so many times those without that wait; fewer engines, or shorter rollouts."
        )
    if published > max(LARGE, waits):
        return f"Publications: {published:.0%} of the time; a longer L, or another transport."
    slower = max(learner_s, engines_s) / found["step_s"]
    if waits < SLACK or (slower > NEAR and learner_s > engines_s):
        return (
            f"The learner: it works {1 - waits - found['between']:.0%} of the time, and engines' "
            f"places stand empty {found['engine_idle']:.0%} of it; more ranks, fewer engines."
        )
    if slower > NEAR:
        return (
            f"The engines: full, they need {engines_s:.3g} s for the rollouts of a step, the "
            f"learner {learner_s:.3g} s for the step; more engines, fewer ranks."
        )
    return (
        f"The ends of periods: a step needs {learner_s:.3g} s of the learner and {engines_s:.3g} s "
        f"of full engines, but takes {found['step_s']:.3g} s, since a period waits for its longest "
        "rollouts; a longer L, a surplus or a lead."
    )

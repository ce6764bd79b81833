"""From a task and rates, by simulation, to hours, idle time, loads, and what holds the run up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from oapl.planning import publication
from oapl.planning.foreseen import Forecast, sentence, stored_sentence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """One phase as simulated: its shares, seconds of the whole of it, its steps, the groups that
    engines make for it and keep, and how many times smaller it was simulated."""

    shares: Shares
    seconds: float
    steps: int
    groups: float
    scale: int


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
    publish_s = publication.seconds(task, rates, task.transport)
    phases = [
        _simulated(
            setting_of(task, rates, lengths, fresh=fresh, publish_s=publish_s),
            lengths,
            steps,
            groups,
        )
        for steps, fresh in task.phases
    ]
    shares = _mean_shares(phases)
    simulated_s = sum(phase.seconds for phase in phases)
    steps = sum(phase.steps for phase in phases)
    made = sum(phase.groups for phase in phases) / rates.kept.value
    tokens = made * lengths.mean_total / max(1 - shares["wasted"], 1e-9)
    reward_load = made * task.group_size * rates.judge_s.value / task.judges / simulated_s
    replay_load = tokens / rates.replay_tokens_per_s.value / simulated_s
    total_s = simulated_s * max(1.0, reward_load, replay_load)
    hours = total_s / HOUR_S
    found = Forecast(
        **shares,
        largest_lag=max(phase.shares.largest_lag for phase in phases),
        step_s=total_s / steps,
        learner_s=_learner_s(task, rates, lengths),
        engines_s=made * lengths.mean_total / steps / _peak(task, rates),
        hours=hours,
        making_hours=0.0,
        device_hours=hours * task.devices,
        tokens_per_s=tokens / total_s,
        publish_s={name: publication.seconds(task, rates, name) for name in publication.TRANSPORTS},
        reward_load=reward_load,
        replay_load=replay_load,
        scale=max(phase.scale for phase in phases),
        bottleneck="",
    )
    published = publish_s / (task.interval * found.step_s)
    said = sentence(found, task, published=published, group_tokens=lengths.mean_total)
    return dataclasses.replace(found, bottleneck=said)


def _mean_shares(phases: Sequence[_Phase]) -> dict[str, float]:
    """Over all phases, each by the time that it takes."""
    total_s = sum(phase.seconds for phase in phases)

    def mean(name: str) -> float:
        parts = (getattr(phase.shares, name) * phase.seconds for phase in phases)
        return sum(parts) / total_s

    return {
        "waits": max(mean("learner") - mean("between"), 0.0),
        "between": mean("between"),
        "engine_idle": mean("engine"),
        "wasted": mean("wasted"),
        "mean_lag": mean("mean_lag"),
    }


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


def _simulated(setting: Setting, lengths: Table, steps: int, groups: int) -> _Phase:
    """Some periods of a phase, made longer to the whole of it."""
    per_period = setting.interval // setting.steps_per_take
    periods = 1 + max(PERIODS, math.ceil(TAKES / per_period))
    takes = min(math.ceil(steps / setting.steps_per_take), periods * per_period)
    scale = _factor(setting, takes * setting.made_per_take * (1 + setting.surplus), groups)
    simulated = takes * setting.steps_per_take
    simulation = Simulation(setting.smaller(scale) if scale > 1 else setting, lengths, simulated)
    shares = simulation.run()
    step_s = simulation.measured_time / simulation.measured_steps
    return _Phase(
        shares=shares,
        seconds=shares.elapsed + (steps - simulated) * step_s,
        steps=steps,
        groups=steps / setting.steps_per_take * setting.made_per_take,
        scale=scale,
    )


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
        bottleneck=stored_sentence(hours, making_s / HOUR_S, engines),
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

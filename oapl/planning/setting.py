"""What is simulated, and what comes of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run, in any unit of time and any unit of work (of responses: tokens, or time itself).

    Attributes:
        interval: L, learner steps between two publications; whole takes.
        groups_per_step: Groups of a learner step.
        slots: Groups that all engines hold at a time.
        surplus: Share of a period's groups that is handed out beyond need.
        max_lead: Learner steps by which a version may be published ahead of its period.
        engines: That the slots are spread over.
        moves: A period's last groups are moved to few engines, and the others go on with the next
            version.
        mini_batches, updates_per_batch: As in the recipe; times each other the steps of a take.
        fresh_per_take: Of a take's groups those that engines make, the others are history; 0: all.
        capacity: Most groups buffered and in flight; 0: any number.
        kept: Share of the groups that the objective's filter leaves.
        step: Time of a learner step, whatever is in it.
        token_time: Time of a pass over a unit of work, by all ranks together.
        prompt_work: Work of a group's prompts, which the learner reads with its responses.
        between: Time from one learner step to the next that is neither, such as messages.
        publish: Time of a publication, in which engines and learner stand still.
        pace: Work that one rollout does in a unit of time in engines that are full.
        full: Rollouts at work at a time in engines that are full, all engines together; infinite: a
            rollout is always as fast.
        fixed: Share of a full engine's time per token that it needs however few rollouts it has; 1:
            one is as fast alone as in company.
    """

    interval: int
    groups_per_step: int
    slots: int
    surplus: float = 0.0
    max_lead: int = 0
    engines: int = 1
    moves: bool = False
    mini_batches: int = 1
    updates_per_batch: int = 1
    fresh_per_take: int = 0
    capacity: int = 0
    kept: float = 1.0
    step: float = 1.0
    token_time: float = 0.0
    prompt_work: float = 0.0
    between: float = 0.0
    publish: float = 0.0
    pace: float = 1.0
    full: float = math.inf
    fixed: float = 1.0

    @property
    def steps_per_take(self) -> int:
        """Learner steps of an iteration."""
        return self.mini_batches * self.updates_per_batch

    @property
    def groups_per_take(self) -> int:
        """Groups that an iteration trains on."""
        return self.groups_per_step * self.mini_batches

    @property
    def made_per_take(self) -> int:
        """Of these, those that engines make for it."""
        return self.fresh_per_take or self.groups_per_take

    @property
    def largest_lag(self) -> int:
        """The lag that nothing exceeds: learner steps made when a batch is used, less its version.

        With a lead a period's last step uses a version published `max_lead` before it begins, and
        never longer than a period before.
        """
        return self.interval - 1 + min(self.max_lead, self.interval)

    def speed(self, active: float) -> float:
        """Work of one rollout in a unit of time.

        Its time per token is `fixed + (1 - fixed) * load` of that in a full engine, for a load of
        `active / full` up to 1; beyond, all together make no more than full engines do.

        Args:
            active: Rollouts at work, all engines together, evenly spread.
        """
        load = active / self.full
        return self.pace / (load if load > 1 else self.fixed + (1 - self.fixed) * load)

    def smaller(self, factor: int) -> Setting:
        """Give the same run with so many times fewer groups, slots and rollouts at a time.

        Args:
            factor: Divides `groups_per_step`, and `fresh_per_take` where that is set.
        """
        return dataclasses.replace(
            self,
            groups_per_step=self.groups_per_step // factor,
            fresh_per_take=self.fresh_per_take // factor,
            slots=max(1, round(self.slots / factor)),
            capacity=self.capacity // factor,
            full=self.full / factor,
            token_time=self.token_time * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Where the time of a run went, and how old its batches were.

    Attributes:
        learner: Idle share of the learner's time.
        between: Of that time, what is neither a step nor a wait for groups: messages, publications.
        engine: Idle share of the engines' slots.
        wasted: Share of slot time, or of tokens, that was thrown away.
        mean_lag, largest_lag: Of the groups trained on, in learner steps.
        elapsed: How long the run took, its first period included; in learner steps where one
            lasts 1.
    """

    learner: float
    between: float
    engine: float
    wasted: float
    mean_lag: float
    largest_lag: int
    elapsed: float

"""The options of `remix`, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from oapl.config.fields import (
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Number,
    Positive,
    section,
)
from oapl.config.listing import fields, literal
from oapl.objectives._options import (
    CriticOptions,
    GroupOptions,
    PolicyOptions,
    group_rules,
    policy_rules,
    refuse,
)

Weight = Annotated[Number, Field(ge=0, le=1)]


@section
class Config(CriticOptions, GroupOptions):
    """Options of `remix`."""

    on: Literal["ppo", "grpo"] = "ppo"
    """Where advantages come from: a critic and V-trace, or the group; grpo has no value loss."""
    share: Fraction = 0.4
    """p, share of a take's rollouts that are history; 0: none."""
    iterations: Count = 2
    """N: history is of the last so many iterations, each as likely as the others."""
    until: NonNegativeInt = 50
    """T: after so many iterations takes are fresh, and the KL's base is the policy of then
    (reincarnation); 0: never."""
    largest_weight: Positive = 1.0
    """rho-bar, the largest weight of V-trace."""
    kl_coefficient: NonNegative = 0.001
    """Weight of KL-Convex; 0: neither the base nor the previous policy is kept."""
    lambda_delay: NonNegativeInt = 50
    """Iterations in which KL-Convex is the KL from the base alone (lambda = 1)."""
    lambda_interval: Count = 10
    """Iterations from then on to each step of lambda."""
    lambda_step: Weight = 0.1
    """What each step takes off lambda."""
    lambda_floor: Weight = 0.5
    """Where lambda stops."""
    entropy_coefficient: NonNegative = 0.001
    """Weight of the entropy bonus."""

    @property
    def looks_back(self) -> bool:
        """Whether KL-Convex ever counts the policy before the last iteration."""
        return self.kl_coefficient > 0 and self.lambda_step > 0 and self.lambda_floor < 1

    @property
    def changes(self) -> bool:
        """Whether anything happens at `until`."""
        return self.until > 0 and (self.share > 0 or self.kl_coefficient > 0)

    def __post_init__(self) -> None:
        refuse(policy_rules(self), group_rules(self), _rules(self))


OF_PPO = (
    *(key for key in fields(CriticOptions) if key not in fields(PolicyOptions)),
    "largest_weight",
)
OF_GRPO = (*fields(GroupOptions),)
OF_HISTORY = ("iterations", "largest_weight")
OF_KL = ("lambda_delay", "lambda_interval", "lambda_step", "lambda_floor")


def _rules(config: Config) -> Iterator[tuple[bool, str]]:
    other, foreign = ("grpo", OF_GRPO) if config.on == "ppo" else ("ppo", OF_PPO)
    for reason, keys in (
        (f'belongs to on = "{other}"', foreign),
        ("there is no history with share = 0", () if config.share else OF_HISTORY),
        ("there is no KL with kl_coefficient = 0", () if config.kl_coefficient else OF_KL),
        ("no history ends and no base is kept", () if config.changes else ("until",)),
    ):
        for key in keys:
            value, default = getattr(config, key), fields(Config)[key].default
            # `until = 0` says what is so in any case
            yield (
                value != default and not (key == "until" and value == 0),
                f"{key} = {literal(value)}: {reason}; leave {key} out",
            )

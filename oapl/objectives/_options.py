"""Options that several objectives have, declared once, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from oapl.config.fields import Flag, NonNegative, NonNegativeInt, Number, Positive, section

Rules = Iterable[tuple[bool, str]]
"""Whether a rule is broken, and what is then said."""


@section
class PolicyOptions:
    """Options of a clipped ratio, its penalties and their mean: of `grpo`, `ppo` and `remix`."""

    eps_low: Annotated[Number, Field(ge=0, le=1)] = 0.2
    """The ratio counts down to 1 - eps_low."""
    eps_high: NonNegative = 0.2
    """The ratio counts up to 1 + eps_high."""
    dual_clip: NonNegative = 0.0
    """Above 1: where A is negative the surrogate is at least so many times A; 0 is off."""
    aggregation: Literal["sequence", "token", "constant"] = "sequence"
    """Mean over a rollout's tokens and then over rollouts; over all tokens of the batch; or the sum
    over tokens, divided by rollouts times `constant_tokens`."""
    constant_tokens: NonNegativeInt = 0
    """Divisor of a rollout's sum under aggregation = "constant"."""
    kl_coefficient: NonNegative = 0.0
    """Weight of the KL penalty; 0 means there is no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Which estimator of the KL is taken; see `oapl/objectives/grpo.py`."""
    entropy_coefficient: NonNegative = 0.0
    """Weight of the entropy bonus."""
    entropy_target: NonNegative = 0.0
    """Adaptive entropy: the bonus is on while the step before had less, in nats; 0: always on."""


@section
class GroupOptions:
    """Options of an advantage within a group: of `grpo`, and of `remix` on it."""

    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What a reward is compared with: its group's mean, the others' mean, or nothing."""
    scale: Literal["group", "batch", "none"] = "group"
    """Spread that advantages are divided by: of the group's rewards, of the batch's advantages."""
    uniform: Literal["keep", "drop"] = "keep"
    """drop: a group of equal rewards is replaced by another (dynamic sampling)."""


@section
class CriticOptions(PolicyOptions):
    """Options of an advantage from a critic's values: of `ppo`, and of `remix` on it."""

    aggregation: Literal["sequence", "token", "constant"] = "token"
    """As of the other objectives with a ratio; of the critic's loss too."""

    gamma: Annotated[Number, Field(ge=0, le=1)] = 1.0
    """Discount of a reward per token that lies between."""
    lam: Annotated[Number, Field(ge=0, le=1)] = 1.0
    """Lambda of GAE: 0 trusts the critic's values, 1 the rewards."""
    whiten: Flag = True
    """Advantages of an iteration's tokens are moved and scaled to mean 0 and spread 1."""
    value_clip: NonNegative = 0.5
    """A value's move from what it was before the iteration counts up to this, in units of reward,
    where that makes its error larger; 0 is off."""
    value_coefficient: Positive = 1.0
    """Factor of the critic's loss, whose optimizer is its own."""


def refuse(*rules: Rules) -> None:
    """Say which rule of options is broken.

    Raises:
        ValueError: The words of the first that is.
    """
    for is_broken, words in (rule for some in rules for rule in some):
        if is_broken:
            raise ValueError(words)


def policy_rules(options: PolicyOptions) -> Iterator[tuple[bool, str]]:
    """The rules of `PolicyOptions`."""
    dual, tokens = options.dual_clip, options.constant_tokens
    yield 0 < dual <= 1, f"dual_clip = {dual:g}: must be above 1, or 0"
    yield (
        (options.aggregation == "constant") != (tokens > 0),
        f'constant_tokens = {tokens}: is the divisor of aggregation = "constant"; set both or '
        "neither",
    )
    yield (
        options.kl_estimator != "k3" and not options.kl_coefficient,
        f'kl_estimator = "{options.kl_estimator}": of a KL that kl_coefficient = 0 leaves out; set '
        "kl_coefficient",
    )
    yield (
        options.entropy_target > 0 and not options.entropy_coefficient,
        f"entropy_target = {options.entropy_target:g}: switches a bonus that "
        "entropy_coefficient = 0 does not give; set entropy_coefficient",
    )


def group_rules(options: GroupOptions) -> Iterator[tuple[bool, str]]:
    """The rules of `GroupOptions`."""
    yield (
        options.uniform == "drop" and options.baseline == "none",
        'uniform = "drop": without a baseline a group of equal rewards teaches too',
    )

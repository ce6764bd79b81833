"""The options of `grpo`, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from oapl.config.fields import NonNegative, section
from oapl.objectives._options import (
    GroupOptions,
    PolicyOptions,
    group_rules,
    policy_rules,
    refuse,
)


@section
class Config(PolicyOptions, GroupOptions):
    """Options of `grpo`."""

    ratio_to: Literal["proximal", "inference"] = "proximal"
    """What pi is divided by: the policy before the batch's first update, or what sampled."""
    policy_ratio: Literal["token", "sequence"] = "token"
    """sequence: one ratio per rollout, the geometric mean of its tokens' (GSPO)."""
    clip: Literal["min", "weights", "none"] = "min"
    """min: PPO's; weights: the clipped ratio, without gradient, times A ln pi (CISPO)."""
    importance: Literal["none", "token", "sequence"] = "none"
    """w, the proximal policy over what sampled, per token or as the product over a rollout."""
    importance_cap: NonNegative = 0.0
    """Larger w count as this (truncated importance sampling); 0 is off."""
    importance_bounds: tuple[NonNegative, NonNegative] = (0.0, 0.0)
    """Least and largest w that count; a token outside is taken out. 0 as the largest is off."""
    outside: Literal["token", "rollout"] = "token"
    """What a w outside its bounds takes out: the token, or its whole rollout."""
    masked: Literal["keep", "leave"] = "keep"
    """Whether what is taken out stays in the denominators (a constant one always does)."""
    overlong: Literal["keep", "mask"] = "keep"
    """mask: a rollout that was cut off at the limit is taken out of the loss."""

    def __post_init__(self) -> None:
        refuse(policy_rules(self), group_rules(self), _rules(self))


def _rules(config: Config) -> Iterator[tuple[bool, str]]:
    low, high = config.importance_bounds
    bounded = high > 0
    yield (
        config.dual_clip > 0 and config.clip != "min",
        f'dual_clip = {config.dual_clip:g}: bounds the minimum of clip = "min" only',
    )
    yield (
        low > high,
        f"importance_bounds = [{low:g}, {high:g}]: the least is above the largest",
    )
    yield (
        config.importance == "none" and (bounded or config.importance_cap > 0),
        'importance_cap and importance_bounds: there is no weight with importance = "none"',
    )
    yield (
        config.importance != "none" and config.ratio_to == "inference",
        f'importance = "{config.importance}": a ratio to what sampled has it already; set '
        'importance = "none" or ratio_to = "proximal"',
    )
    yield (
        config.outside != "token" and not bounded,
        f'outside = "{config.outside}": nothing is outside without importance_bounds; set them',
    )
    yield (
        config.masked != "keep" and not bounded and config.overlong == "keep",
        f'masked = "{config.masked}": nothing is taken out without importance_bounds or '
        'overlong = "mask"; set one of them',
    )

"""The options of `grpo`, and which of them do not go together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from oapl.config.fields import NonNegative, NonNegativeInt, Number, section


@section
class Config:
    """Options of `grpo`."""

    ratio_to: Literal["proximal", "inference"] = "proximal"
    """What pi is divided by: the policy before the batch's first update, or what sampled."""
    policy_ratio: Literal["token", "sequence"] = "token"
    """sequence: one ratio per rollout, the geometric mean of its tokens' (GSPO)."""
    clip: Literal["min", "weights", "none"] = "min"
    """min: PPO's; weights: the clipped ratio, without gradient, times A ln pi (CISPO)."""
    eps_low: Annotated[Number, Field(ge=0, le=1)] = 0.2
    """The ratio counts down to 1 - eps_low."""
    eps_high: NonNegative = 0.2
    """The ratio counts up to 1 + eps_high."""
    dual_clip: NonNegative = 0.0
    """Above 1: where A is negative the surrogate is at least so many times A; 0 is off."""
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
    aggregation: Literal["sequence", "token", "constant"] = "sequence"
    """Mean over a rollout's tokens and then over rollouts; over all tokens of the batch; or the sum
    over tokens, divided by rollouts times `constant_tokens`."""
    constant_tokens: NonNegativeInt = 0
    """Divisor of a rollout's sum under aggregation = "constant"."""
    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What a reward is compared with: its group's mean, the others' mean, or nothing."""
    scale: Literal["group", "batch", "none"] = "group"
    """Spread that advantages are divided by: of the group's rewards, of the batch's advantages."""
    uniform: Literal["keep", "drop"] = "keep"
    """drop: a group of equal rewards is replaced by another (dynamic sampling)."""
    overlong: Literal["keep", "mask"] = "keep"
    """mask: a rollout that was cut off at the limit is taken out of the loss."""
    kl_coefficient: NonNegative = 0.0
    """Weight of the KL penalty; 0 means there is no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Which estimator of the KL is minimised; see `objectives/grpo.py`."""
    entropy_coefficient: NonNegative = 0.0
    """Weight of the entropy bonus."""
    entropy_target: NonNegative = 0.0
    """Adaptive entropy: the bonus is on while the step before had less, in nats; 0: always on."""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)


def _problems(config: Config) -> list[str]:
    low, high = config.importance_bounds
    bounded = high > 0
    return [
        words
        for is_wrong, words in (
            (0 < config.dual_clip <= 1, f"dual_clip = {config.dual_clip:g}: must be above 1, or 0"),
            (
                config.dual_clip > 0 and config.clip != "min",
                f'dual_clip = {config.dual_clip:g}: bounds the minimum of clip = "min" only',
            ),
            (
                low > high,
                f"importance_bounds = [{low:g}, {high:g}]: the least is above the largest",
            ),
            (
                config.importance == "none" and (bounded or config.importance_cap > 0),
                'importance_cap and importance_bounds: there is no weight with importance = "none"',
            ),
            (
                config.importance != "none" and config.ratio_to == "inference",
                f'importance = "{config.importance}": a ratio to what sampled has it already; set '
                'importance = "none" or ratio_to = "proximal"',
            ),
            (
                (config.aggregation == "constant") != (config.constant_tokens > 0),
                f"constant_tokens = {config.constant_tokens}: is the divisor of "
                'aggregation = "constant"; set both or neither',
            ),
            (
                config.entropy_target > 0 and not config.entropy_coefficient,
                f"entropy_target = {config.entropy_target:g}: switches a bonus that "
                "entropy_coefficient = 0 does not give; set entropy_coefficient",
            ),
            (
                config.uniform == "drop" and config.baseline == "none",
                'uniform = "drop": without a baseline a group of equal rewards teaches too',
            ),
        )
        if is_wrong
    ]

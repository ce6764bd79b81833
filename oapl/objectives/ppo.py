r"""PPO: a clipped ratio times the advantage that a critic's values give each token.

    loss        = - mean over tokens of  min(r A, clip(r, 1 - eps_low, 1 + eps_high) A)
                  + kl_coefficient * KL - entropy_coefficient * H,      r = pi / pi_proximal
    value loss  = value_coefficient * mean over tokens of
                  max((V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2) / 2
    A           = GAE of the values before the iteration's first update,  R = A + V_old

The reward of a rollout stands on its last token; tokens before it have none, or, with
kl_in = "reward", each loses kl_coefficient times its KL to the reference, which then is not in the
loss. `whiten` moves and scales the advantages of an iteration's tokens, not the returns. With
whiten = false, gamma = lam = 1, the advantage is the reward less the token's value; where it is
equal for all tokens of a rollout, the loss is that of `grpo`.

`aggregation` is the mean of both losses. A rollout is worth something alone, so there is no group
to compare it with: `rollout.group_size` may be 1. A response that was cut off counts as ended.

Source: PPO, arXiv 1707.06347, Eq. 7 and 9; GAE, arXiv 1506.02438; as ReMix has it (arXiv
2507.06892, Eq. 2 and 3, Table 6: eps 0.2, lam 1). Its gamma is lost in the text at hand; 1 is a
reading, and so are what Table 6 does not list: the value clip, the whitening, and the mean over
all tokens, which are those of its code base, verl. Departure: the critic has its own module and
optimizer, so the value loss is no term of the policy's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from oapl.config.fields import section
from oapl.config.objective import Declarations, Need
from oapl.estimators import gae, kl_k3, on_last_token
from oapl.objectives._critic import critic_loss, token_advantage
from oapl.objectives._options import CriticOptions, Rules, policy_rules, refuse
from oapl.objectives._policy_gradient import (
    EntropyBonus,
    WithBonus,
    aggregate,
    clipped,
    kl_to,
    policy_needs,
)
from oapl.objectives.base import policy_metrics
from oapl.records import (
    Credit,
    LossInputs,
    LossOutputs,
    ScoredGroup,
    TokenCredit,
)

DECLARES = Declarations(
    needs=frozenset(
        {
            *("entropy", "entropy_gradient", "proximal", "prepared", "token_credit", "values"),
            *("reference", "state"),
        }
    ),
    min_group_size=1,
    samples=True,
    needs_inference_logprobs=False,
    lacks=dict.fromkeys(
        ("baseline", "scale", "uniform"), "its advantages come from the critic, not from a group"
    ),
)


@section
class Config(CriticOptions):
    """Options of `ppo`."""

    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL penalty counts: in the loss, or off each token's reward, before the critic."""

    def __post_init__(self) -> None:
        refuse(policy_rules(self), _rules(self))


def _rules(config: Config) -> Rules:
    yield (
        config.kl_in == "reward" and not config.kl_coefficient,
        'kl_in = "reward": there is no KL penalty with kl_coefficient = 0; set kl_coefficient',
    )


class Objective(WithBonus):
    """See `oapl.interfaces.Objective` and `oapl.interfaces.Valued`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bonus = EntropyBonus(config)
        self._rewards_kl = bool(config.kl_coefficient) and config.kl_in == "reward"
        needs: set[Need] = {"proximal", "token_credit", "values", *policy_needs(config)}
        if config.kl_coefficient:
            needs.add("reference")
        if self._rewards_kl:
            needs.add("prepared")
        self.declares = replace(DECLARES, needs=frozenset(needs))

    def credit(self, group: ScoredGroup) -> Credit:
        """Give each rollout its reward, float32 [G]; `token_credit` makes the advantages."""
        return Credit(values=group.rewards.astype(np.float32))

    def token_credit(self, inputs: LossInputs) -> TokenCredit:
        """Estimate advantages from rewards and values; see `oapl.interfaces.TokenCredited`."""
        config, values = self._config, inputs.old_values
        assert values is not None, "credit per token without a critic's values"
        rewards = on_last_token(inputs.credit, inputs.rollout_index)
        if self._rewards_kl:
            assert inputs.proximal is not None, "a KL in the reward without proximal log-probs"
            divergence = kl_to(inputs.reference, inputs.proximal, config)
            rewards = rewards - config.kl_coefficient * divergence
        index = inputs.rollout_index
        advantage = gae(rewards, values, index, gamma=config.gamma, lam=config.lam)
        return TokenCredit(advantage=advantage, returns=advantage + values)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the tokens' terms as `aggregation` says, over the denominators of the batch."""
        config = self._config
        assert inputs.proximal is not None, "a ratio to the proximal policy without its log-probs"
        advantage = token_advantage(inputs, config)
        ratio = (inputs.logprobs - inputs.proximal).exp()
        surrogate, is_clipped = clipped(ratio, advantage, config)
        terms = -surrogate + self._bonus.term(inputs)
        if config.kl_coefficient and not self._rewards_kl:
            divergence = kl_to(inputs.reference, inputs.logprobs, config)
            terms = terms + config.kl_coefficient * divergence
        metrics = {
            "ppo/advantage_*": advantage,
            "ppo/ratio_*": ratio.detach(),
            "ppo/clipped_rate": is_clipped.to(ratio.dtype),
            **policy_metrics(inputs),
            **self._bonus.metrics(inputs),
        }
        if inputs.reference is not None:
            metrics["policy/reference_kl"] = kl_k3(inputs.reference - inputs.logprobs.detach())
        return LossOutputs(
            loss=aggregate(terms, inputs, config),
            metrics=metrics,
            terms={"policy": aggregate(-surrogate.detach(), inputs, config)},
        )

    def value_loss(self, inputs: LossInputs) -> LossOutputs:
        """See `oapl.interfaces.Valued.value_loss`."""
        return critic_loss(inputs, self._config)

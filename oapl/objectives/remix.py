r"""ReMix: PPO or GRPO on fresh rollouts and on those of the last iterations, then on fresh ones.

    loss = - mean over tokens of  min(r A, clip(r, c - eps_low, c + eps_high) A)      (Mix-PPG)
           + kl_coefficient * (lambda KL(pi || pi_base) + (1 - lambda) KL(pi || pi_{k-1}))
           - entropy_coefficient * H
    r = pi / pi_{k-i},  c = pi_k / pi_{k-i}
    lambda(t) = max(1 - lambda_step ceil(max(t - lambda_delay, 0) / lambda_interval), lambda_floor)

pi_k is the policy before the iteration's first update, pi_{k-i} the one that a rollout was drawn
from. Of history that is what the engine recorded; of fresh rollouts (i = 0) it is pi_k itself, so
that c = 1 and the clip is PPO's. `share` (p) of a take is history, of the last `iterations` (N).
t counts iterations, the first being 1.

on = "ppo": A is GAE with V-trace under the critic's values, weighted by c up to `largest_weight`;
the value loss is that of `ppo`, on the same rollouts. on = "grpo": A is the group's, no value loss.
With share = 0, kl_coefficient = 0 and the rest equal it is `ppo` or `grpo`.

After `until` (T) iterations takes are fresh, and pi_base becomes the policy of then (policy
reincarnation); the optimizer goes on. The paper's UTD ratio m is `learner.updates_per_batch` (2);
it is not lowered at T. A fresh rollout must be of the policy that trains on it, so
`sync.interval` is one iteration, without a lead.

Source: ReMix, arXiv 2507.06892, Eq. 4 to 6, sections 3.1 to 3.4, Table 6 (coefficients, low_var_kl
for k3); Mix-PPG is generalised PPO, arXiv 2111.00072. The equations are lost in the text at hand.
Confirmed elsewhere: Eq. 4 to 6, p, N, m, T and lambda(t). Readings: history is uniform over its N
iterations; V-trace as `oapl.estimators.vtrace_gae` has it, so that the advantage of a token of
history carries its weight and the surrogate its ratio; KL-Convex is estimated on history's tokens
as on fresh ones, without a weight; its coefficient on PPO, which Table 6 gives for GRPO alone; T
is 50, the paper's on GRPO (50 or 100 on PPO); Table 6's undefined "tau 0.95" is nowhere here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from oapl.config.objective import Declarations, History, Need
from oapl.estimators import kl_k3, on_last_token, vtrace_gae
from oapl.objectives._critic import critic_loss, token_advantage
from oapl.objectives._policy_gradient import (
    EntropyBonus,
    WithBonus,
    aggregate,
    clipped,
    demand_logprobs,
    group_advantage,
    group_credit,
    kl_to,
    policy_needs,
)
from oapl.objectives._remix_options import Config
from oapl.objectives.base import policy_metrics
from oapl.records import (
    Credit,
    LossInputs,
    LossOutputs,
    ScoredGroup,
    TokenCredit,
)

if TYPE_CHECKING:
    from torch import Tensor

DECLARES = Declarations(
    needs=frozenset(
        {
            *("entropy", "entropy_gradient", "proximal", "prepared", "token_credit", "values"),
            *("reference", "previous", "history", "state"),
        }
    ),
    min_group_size=2,
    samples=True,
    needs_inference_logprobs=True,
)


class Objective(WithBonus):
    """See `oapl.interfaces.Objective` and `oapl.interfaces.Valued`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bonus = EntropyBonus(config)
        needs = frozenset(self._needs())
        compares = config.on == "grpo" and (config.baseline != "none" or config.scale == "group")
        self.declares = replace(
            DECLARES,
            needs=needs,
            min_group_size=2 if compares else 1,
            needs_inference_logprobs=config.share > 0,
            history=self._history() if "history" in needs else None,
        )

    def _needs(self) -> set[Need]:
        config = self._config
        is_valued = config.on == "ppo"
        asked: dict[Need, bool] = {
            "proximal": True,
            "prepared": is_valued and config.share > 0,  # V-trace reads it before any update
            "token_credit": is_valued,
            "values": is_valued,
            "history": config.share > 0 or config.changes,
            "reference": config.kl_coefficient > 0,
            "previous": config.looks_back,
        }
        return policy_needs(config) | {need for need, is_asked in asked.items() if is_asked}

    def _history(self) -> History:
        config = self._config
        return History(share=config.share, iterations=config.iterations, until=config.until)

    def credit(self, group: ScoredGroup) -> Credit:
        """Give each rollout its reward or the group's advantage, float32 [G].

        Raises:
            InputError: A rollout has no inference log-probs, which history is compared by.
        """
        if self._config.share:
            demand_logprobs(group, "objective.share uses; set share = 0")
        if self._config.on == "grpo":
            return group_credit(group, self._config)
        return Credit(values=group.rewards.astype(np.float32))

    def token_credit(self, inputs: LossInputs) -> TokenCredit:
        """Estimate advantages with V-trace; see `oapl.interfaces.TokenCredited`."""
        config, index, values = self._config, inputs.rollout_index, inputs.old_values
        assert values is not None, "credit per token without a critic's values"
        advantage = vtrace_gae(
            on_last_token(inputs.credit, index),
            values,
            (_proximal(inputs) - _behaviour(inputs)).exp(),
            index,
            gamma=config.gamma,
            lam=config.lam,
            largest=config.largest_weight,
        )
        return TokenCredit(advantage=advantage, returns=advantage + values)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the tokens' terms as `aggregation` says, over the denominators of the batch."""
        config, behaviour = self._config, _behaviour(inputs)
        ratio = (inputs.logprobs - behaviour).exp()
        centre = (_proximal(inputs) - behaviour).exp()
        advantage = self._advantage(inputs)
        surrogate, is_clipped = clipped(ratio, advantage, config, centre)
        terms = -surrogate + self._bonus.term(inputs)
        metrics = {
            "remix/advantage_*": advantage,
            "remix/ratio_*": ratio.detach(),
            "remix/centre_*": centre[inputs.is_history[inputs.rollout_index]],
            "remix/clipped_rate": is_clipped.to(ratio.dtype),
            "remix/history_rate": inputs.is_history.to(ratio.dtype),
            **policy_metrics(inputs),
            **self._bonus.metrics(inputs),
        }
        if config.kl_coefficient:
            weight = base_weight(inputs.iteration + 1, config)
            terms = terms + config.kl_coefficient * self._convex_kl(inputs, weight)
            metrics["remix/base_weight"] = ratio.new_full((1,), weight)
        for name, compared in (
            ("policy/reference_kl", inputs.reference),
            ("policy/previous_kl", inputs.previous),
        ):
            if compared is not None:
                metrics[name] = kl_k3(compared - inputs.logprobs.detach())
        return LossOutputs(
            loss=aggregate(terms, inputs, config),
            metrics=metrics,
            terms={"policy": aggregate(-surrogate.detach(), inputs, config)},
        )

    def value_loss(self, inputs: LossInputs) -> LossOutputs:
        """See `oapl.interfaces.Valued.value_loss`."""
        return critic_loss(inputs, self._config)

    def _advantage(self, inputs: LossInputs) -> Tensor:
        """Of each token, [N]."""
        if self._config.on == "ppo":
            return token_advantage(inputs, self._config)
        return group_advantage(inputs, self._config)[inputs.rollout_index]

    def _convex_kl(self, inputs: LossInputs, weight: float) -> Tensor:
        """Of the base so much, of the previous policy the rest, [N]."""
        found = weight * kl_to(inputs.reference, inputs.logprobs, self._config)
        if weight == 1:
            return found
        return found + (1 - weight) * kl_to(inputs.previous, inputs.logprobs, self._config)


def base_weight(iteration: int, config: Config) -> float:
    """Lambda of KL-Convex, 1 to `lambda_floor`: with the defaults 1 to t = 50, 0.5 from 91 on.

    Args:
        iteration: t, from 1.
        config: The objective's.
    """
    steps = math.ceil(max(iteration - config.lambda_delay, 0) / config.lambda_interval)
    return max(1 - config.lambda_step * steps, config.lambda_floor)


def _proximal(inputs: LossInputs) -> Tensor:
    assert inputs.proximal is not None, "a ratio to the proximal policy without its log-probs"
    return inputs.proximal


def _behaviour(inputs: LossInputs) -> Tensor:
    """Log-probs of what a token counts as drawn from, [N]: pi_{k-i}."""
    is_history = inputs.is_history[inputs.rollout_index]
    return inputs.inference_logprobs.where(is_history, _proximal(inputs))

"""What the objectives share: building one by name, the shuffled control, common metrics.

A file here has a frozen `Config`, a class `Objective` built from it, and `DECLARES`, what is known
of it before it is built: see `oapl.config.objective.ObjectiveFile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from oapl.config.objective import parse
from oapl.estimators import kl_k3, relative_bins, segment_sum
from oapl.interfaces import Masking, Objective, Stateful, TokenCredited, Valued
from oapl.records import (
    Credit,
    LossInputs,
    LossOutputs,
    Means,
    Metrics,
    ScoredGroup,
    State,
    TokenCredit,
)

if TYPE_CHECKING:
    from torch import Tensor


NUM_BINS = 10
"""Parts of a response in `policy/ratio_at`."""
RATIO_AT = tuple(f"policy/ratio_at/{bin}" for bin in range(NUM_BINS))


def build(options: Mapping[str, Any]) -> Objective:
    """Make the objective that `options["name"]` names, with the other options as its `Config`.

    Raises:
        InputError: No such objective, or an option it does not have or cannot take.
    """
    file, config = parse(options)
    objective: Objective = file.Objective(config)
    return objective


def shuffled(objective: Objective, seed: int) -> Objective:
    """Make the control of a claim of learning: credit from rewards permuted within each group.

    The permutation follows from seed, prompt id and attempt, so that a resumed run repeats it. The
    stored group keeps its true rewards.

    Args:
        objective: Whose `credit` sees the permuted rewards; its loss is unchanged.
        seed: The run's.
    """
    return _Shuffled(objective, seed)


class _Shuffled:
    def __init__(self, objective: Objective, seed: int) -> None:
        self._objective = objective
        self._seed = seed
        self.declares = objective.declares

    def credit(self, group: ScoredGroup) -> Credit:
        prompt = group.group.prompt
        key = f"{self._seed}|{prompt.id}|{prompt.attempt}".encode()
        digest = hashlib.sha256(key).digest()
        order = np.random.default_rng(int.from_bytes(digest)).permutation(len(group.rewards))
        return self._objective.credit(replace(group, rewards=group.rewards[order]))

    def loss(self, inputs: LossInputs) -> LossOutputs:
        return self._objective.loss(inputs)

    def keeps(self, inputs: LossInputs) -> Tensor:
        return cast(Masking, self._objective).keeps(inputs)

    def token_credit(self, inputs: LossInputs) -> TokenCredit:
        return cast(TokenCredited, self._objective).token_credit(inputs)

    def value_loss(self, inputs: LossInputs) -> LossOutputs:
        return cast(Valued, self._objective).value_loss(inputs)

    def observe(self, metrics: Metrics) -> None:
        cast(Stateful, self._objective).observe(metrics)

    def state(self) -> State:
        return cast(Stateful, self._objective).state()

    def restore(self, state: State) -> None:
        cast(Stateful, self._objective).restore(state)


def entropy_metrics(inputs: LossInputs) -> dict[str, Tensor]:
    """Give the entropy of the policy per token, at the temperature of its log-probs.

    Returns:
        `policy/entropy`, [N]; nothing if it was not asked for.
    """
    return {} if inputs.entropy is None else {"policy/entropy": inputs.entropy}


def policy_metrics(inputs: LossInputs) -> dict[str, Tensor | Means]:
    """Measure how far the policy is from the one that sampled, per token, and its entropy.

    For objectives that are `at_temperature` alone: log-probs at temperature 1 differ from recorded
    ones of another temperature though the policy be the same. Of tokens without recorded log-probs
    (a stored set may have none) nothing is known.

    Returns:
        `policy/policy_kl`, k3 of the tokens where learner steps lie between the two, and
        `policy/mismatch_kl`, of those where none do (numerics alone): together [N].
        `policy/prob_ratio`, exp(|ln pi - ln pi_vllm|), and, if asked for, `policy/entropy`.
        `policy/rollout_prob_ratio_*`, [B], its mean over the tokens of each rollout; and
        `policy/ratio_at/BIN`, the mean of pi / pi_vllm over the tokens of each tenth of a response:
        drift grows along it.
    """
    is_known = ~inputs.inference_logprobs.isnan()  # [N]
    log_ratio = (inputs.logprobs.detach() - inputs.inference_logprobs)[is_known]
    is_lagged = (inputs.lag[inputs.rollout_index] > 0)[is_known]
    divergence = kl_k3(log_ratio)
    return {
        "policy/policy_kl": divergence[is_lagged],
        "policy/mismatch_kl": divergence[~is_lagged],
        "policy/prob_ratio": log_ratio.abs().exp(),
        **_along(inputs, is_known),
        **entropy_metrics(inputs),
    }


def _along(inputs: LossInputs, is_known: Tensor) -> dict[str, Tensor | Means]:
    """Per rollout, and per tenth of a response; what is not known, bool [N], counts as nothing."""
    owner, count = inputs.rollout_index, len(inputs.credit)
    log_ratio = (inputs.logprobs.detach() - inputs.inference_logprobs).where(is_known, 0.0)  # [N]
    known = is_known.to(log_ratio.dtype)
    sizes = segment_sum(known, owner, count)  # [B]
    per_rollout = segment_sum(log_ratio.abs().exp() * known, owner, count) / sizes.clamp(min=1)
    bins = relative_bins(owner, count, NUM_BINS)
    totals = segment_sum(log_ratio.exp() * known, bins, NUM_BINS)  # [NUM_BINS]
    counts = segment_sum(known, bins, NUM_BINS)
    return {
        "policy/rollout_prob_ratio_*": per_rollout[sizes > 0],
        "policy/ratio_at": Means(RATIO_AT, totals, counts),
    }

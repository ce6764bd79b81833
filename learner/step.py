"""The updates of one learner step: what is passed forward, whose loss it is, which engine steps.

Invariants: the policy's update and the critic's are made or skipped each by its own gradient; the
critic's never waits for the policy's pass but to know its log-probs; in the first
`critic.warmup_steps` the policy makes no pass at all.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor

from learner.forward import logprobs_of, values_of
from learner.measures import Measures
from learner.preparation import Preparation
from learner.schedule import learning_rate
from learner.updates import CRITIC, POLICY, Updates
from learner.zero_engine import ZeroEngine
from oapl.batching import by_rollout
from oapl.config import RunConfig
from oapl.interfaces import Masking, Objective, Valued
from oapl.records import Batch, LossOutputs, Metrics, State, TokenScores


class Step:
    """Makes the updates of learner steps.

    Args:
        config: The run's.
        engine: The policy.
        critic: None where the objective needs no values.
        objective: Whose losses they are.
        preparation: Of the iteration under way.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: ZeroEngine,
        critic: ZeroEngine | None,
        objective: Objective,
        preparation: Preparation,
    ) -> None:
        self._config = config
        self._engine = engine
        self._critic = critic
        self._objective = objective
        self._needs = objective.declares.needs
        self._preparation = preparation
        most = config.learner.max_skipped_in_a_row
        self._of_policy = Updates(engine, POLICY, most)
        self._of_critic = None if critic is None else Updates(critic, CRITIC, most)
        self._scored: list[Tensor | None] = []

    def make(self, batch: Batch, measures: Measures) -> Metrics:
        """Make the updates. All ranks make equal calls.

        Args:
            batch: This rank's share.
            measures: Takes losses, and what they report.

        Returns:
            Rate, norms, loss scales and which updates were skipped; the same on every rank.
        """
        counts = self._counts(batch)
        scored: list[Tensor | None] = [None] * len(batch.micro_batches)  # by the policy, now
        found: Metrics = {"policy/lr": 0.0, POLICY.skipped: 0.0}
        if self._trains_policy(batch.step):
            lr = learning_rate(batch.step, self._config.run.max_steps, self._config.optimizer)
            losses = partial(self._loss, batch, counts, scored)
            found |= {"policy/lr": lr, **self._of_policy.make(batch, losses, lr, measures)}
        if self._critic is not None and self._of_critic is not None:
            losses = partial(self._value_loss, self._critic, batch, counts, scored)
            lr = self._config.critic.lr
            found |= self._of_critic.make(batch, losses, lr, measures)
        self._scored = scored
        return found

    def kept_scores(self, batch: Batch) -> list[TokenScores]:
        """Give the log-probs of the last update, of the groups that its batch keeps.

        Args:
            batch: Given to the last `make`.
        """
        return [
            scores
            for micro_batch, scored in zip(batch.micro_batches, self._scored, strict=True)
            if scored is not None and not micro_batch.is_dummy
            for scores in by_rollout(micro_batch, scored.cpu().numpy(), batch.kept_groups)
        ]

    def count(self, step: int, metrics: Metrics) -> None:
        """Count the updates of a learner step as made or skipped; see `Updates.count`.

        Args:
            step: Learner steps made before it.
            metrics: What `make` returned, and the global batch's losses.
        """
        if self._trains_policy(step):
            self._of_policy.count(step, metrics)
        if self._of_critic is not None:
            self._of_critic.count(step, metrics)

    def state(self) -> State:
        """What decides the next step beside DeepSpeed's own, as JSON holds it."""
        critic = None if self._of_critic is None else self._of_critic.state()
        return {"policy": self._of_policy.state(), "critic": critic}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._of_policy.restore(state["policy"])
        if self._of_critic is not None:
            self._of_critic.restore(state["critic"])

    def _trains_policy(self, step: int) -> bool:
        return self._critic is None or step >= self._config.critic.warmup_steps

    def _counts(self, batch: Batch) -> tuple[float, float]:
        """Rollouts and tokens in the denominators: all, or those that the objective keeps."""
        whole = float(batch.global_rollouts), float(batch.global_tokens)
        if "kept_counts" not in self._needs:
            return whole
        kept = torch.zeros(2, device=self._engine.device)
        for index, micro_batch in enumerate(batch.micro_batches):
            if not micro_batch.is_dummy:
                inputs = self._preparation.inputs(batch, index, whole)
                keeps = cast(Masking, self._objective).keeps(inputs)
                kept[0] += len(inputs.rollout_index[keeps].unique())
                kept[1] += keeps.sum()
        torch.distributed.all_reduce(kept)
        return float(kept[0]), float(kept[1])

    def _loss(
        self,
        batch: Batch,
        counts: tuple[float, float],
        scored: list[Tensor | None],
        index: int,
        is_last: bool,
    ) -> LossOutputs:
        """Forward pass and objective."""
        micro_batch = batch.micro_batches[index]
        has_entropy = "entropy" in self._needs
        logprobs, entropy = logprobs_of(
            self._engine,
            micro_batch,
            temperature=batch.temperature,
            with_entropy=has_entropy and not micro_batch.is_dummy,
            entropy_gradient="entropy_gradient" in self._needs,
            is_last=is_last,
        )
        if micro_batch.is_dummy:
            return _of_a_dummy(logprobs)
        if self._critic is not None or batch.kept_groups:
            scored[index] = logprobs.detach()
        inputs = self._preparation.inputs(
            batch, index, counts, logprobs=logprobs, entropy=entropy if has_entropy else None
        )
        return self._objective.loss(inputs)

    def _value_loss(
        self,
        critic: ZeroEngine,
        batch: Batch,
        counts: tuple[float, float],
        scored: list[Tensor | None],
        index: int,
        is_last: bool,
    ) -> LossOutputs:
        """The same of the critic. Where the policy made no pass, its log-probs are the proximal."""
        micro_batch = batch.micro_batches[index]
        values = values_of(critic, micro_batch, is_last=is_last)
        if micro_batch.is_dummy:
            return _of_a_dummy(values)
        inputs = self._preparation.inputs(
            batch, index, counts, logprobs=scored[index], values=values
        )
        outputs = cast(Valued, self._objective).value_loss(inputs)
        metrics = {"critic/value_*": values, **outputs.metrics}
        return LossOutputs(loss=outputs.loss, metrics=metrics)


def _of_a_dummy(answer: Tensor) -> LossOutputs:
    """0 times what the pass gave: gradients of exact zeros, though every rank makes equal calls."""
    return LossOutputs(loss=answer.sum() * 0.0, metrics={})

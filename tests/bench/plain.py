"""An iteration of any objective in plain PyTorch, as one would write it without DeepSpeed.

The same packed micro-batches, log-probs and losses as the learner's; whole copies of the model for
frozen policies; torch's AdamW and clipping. No metric is reduced, nothing is checked.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from learner.models.policy import load_policy
from oapl.config import RunConfig
from oapl.config.objective import scored_before
from oapl.objectives.base import build
from oapl.records import Batch, LossInputs, MicroBatch

PROXIMAL, PREVIOUS = "proximal", "previous"
Prepared = list[dict[str, Any]]
"""Per micro-batch, fields of `LossInputs` by name."""


class PlainLearner:
    """A policy, its copies, perhaps a critic.

    Args:
        config: The run's.
        passes: Over an iteration's mini-batches.
    """

    def __init__(self, config: RunConfig, passes: int = 1) -> None:
        self._config = config
        self._passes = passes
        self._objective: Any = build(config.objective)
        self._needs = self._objective.declares.needs
        self._policy = load_policy(config)
        self._scored = scored_before(self._needs, config.steps_per_take)
        self._copies = {n: copy.deepcopy(self._policy) for n in self._scored if n != PROXIMAL}
        self._adam = self._optimizer(self._policy)
        self._critic = Critic(config.model.path) if "values" in self._needs else None
        if self._critic is not None:
            self._critic_adam = self._optimizer(self._critic)

    def iterate(self, batches: Sequence[Batch]) -> float:
        """Make the learner steps of an iteration; the last one's loss."""
        prepared, loss = self._prepare(batches), 0.0
        for _ in range(self._passes):
            for batch, fields in zip(batches, prepared, strict=True):
                loss = self._update(batch, fields)
        return loss

    @torch.no_grad()
    def score(
        self, batches: Sequence[Batch], policy: nn.Module | None = None
    ) -> list[list[Tensor]]:
        """Log-probs [N] of each micro-batch of each batch."""
        policy = policy or self._policy
        return [
            [self._forward(policy, m, batch.temperature)[0] for m in batch.micro_batches]
            for batch in batches
        ]

    def _prepare(self, batches: Sequence[Batch]) -> list[Prepared]:
        found: list[Prepared] = [[{} for _ in batch.micro_batches] for batch in batches]
        for name in self._scored:
            for fields, scores in zip(
                found, self.score(batches, self._copies.get(name)), strict=True
            ):
                for field, one in zip(fields, scores, strict=True):
                    field[name] = one
        if PREVIOUS in self._copies:
            self._copies[PREVIOUS].load_state_dict(self._policy.state_dict())
        if self._critic is not None:
            self._value(batches, found, self._critic)
        if "token_credit" in self._needs:
            self._credit(batches, found)
        return found

    @torch.no_grad()
    def _value(self, batches: Sequence[Batch], found: list[Prepared], critic: Critic) -> None:
        for batch, fields in zip(batches, found, strict=True):
            for micro_batch, field in zip(batch.micro_batches, fields, strict=True):
                field["old_values"] = critic(*_tensors(micro_batch))

    @torch.no_grad()
    def _credit(self, batches: Sequence[Batch], found: list[Prepared]) -> None:
        """Per token, and its mean and spread over the iteration."""
        advantages = []
        for batch, fields in zip(batches, found, strict=True):
            for micro_batch, field in zip(batch.micro_batches, fields, strict=True):
                inputs = self._inputs(batch, micro_batch, field)
                field["token_credit"] = self._objective.token_credit(inputs)
                advantages.append(field["token_credit"].advantage)
        values = torch.cat(advantages)
        moments = {
            "token_credit_mean": float(values.mean()),
            "token_credit_std": float(values.std()),
        }
        for fields in found:
            for field in fields:
                field |= moments

    def _update(self, batch: Batch, prepared: Prepared) -> float:
        counts, total = self._counts(batch, prepared), 0.0
        for micro_batch, fields in zip(batch.micro_batches, prepared, strict=True):
            logprobs, entropy = self._forward(
                self._policy,
                micro_batch,
                batch.temperature,
                with_entropy="entropy" in self._needs,
                entropy_gradient="entropy_gradient" in self._needs,
            )
            given = {**fields, "logprobs": logprobs, **counts}
            if "entropy" in self._needs:
                given["entropy"] = entropy
            inputs = self._inputs(batch, micro_batch, given)
            loss = self._objective.loss(inputs).loss
            loss.backward()
            total += loss.item()
            if self._critic is not None:
                values = self._critic(*_tensors(micro_batch))
                valued = replace(inputs, logprobs=logprobs.detach(), values=values)
                self._objective.value_loss(valued).loss.backward()
        self._step(self._policy, self._adam)
        if self._critic is not None:
            self._step(self._critic, self._critic_adam)
        return total

    def _counts(self, batch: Batch, prepared: Prepared) -> dict[str, float]:
        """The denominators, where the objective leaves something out of them."""
        if "kept_counts" not in self._needs:
            return {}
        rollouts = tokens = 0
        for micro_batch, fields in zip(batch.micro_batches, prepared, strict=True):
            inputs = self._inputs(batch, micro_batch, fields)
            keeps = self._objective.keeps(inputs)
            rollouts += len(inputs.rollout_index[keeps].unique())
            tokens += int(keeps.sum())
        return {"global_rollouts": float(rollouts), "global_tokens": float(tokens)}

    def _forward(
        self, policy: nn.Module, micro_batch: MicroBatch, temperature: float, **options: bool
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = policy(
            *_tensors(micro_batch), temperature=temperature, **options
        )
        return found

    def _inputs(self, batch: Batch, micro_batch: MicroBatch, fields: dict[str, Any]) -> LossInputs:
        chosen = micro_batch.response_mask
        recorded = torch.tensor(micro_batch.inference_logprobs[chosen])
        logprobs = fields.get("logprobs", fields.get(PROXIMAL, torch.zeros_like(recorded)))
        return LossInputs(
            **{
                "step": batch.step,
                "inference_logprobs": recorded,
                "rollout_index": torch.tensor(micro_batch.rollout_index[chosen]),
                "credit": torch.tensor(micro_batch.credit),
                "reward": torch.tensor(micro_batch.reward),
                "lag": torch.tensor(micro_batch.lag),
                "is_truncated": torch.tensor(micro_batch.is_truncated),
                "is_history": torch.tensor(micro_batch.is_history),
                "iteration": batch.step // self._config.steps_per_take,
                "global_rollouts": float(batch.global_rollouts),
                "global_tokens": float(batch.global_tokens),
                "global_credit_std": batch.global_credit_std,
                PROXIMAL: logprobs.detach(),
                **fields,
                "logprobs": logprobs,
            }
        )

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        options = self._config.optimizer
        return torch.optim.AdamW(
            module.parameters(),
            lr=options.lr,
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
        )

    def _step(self, module: nn.Module, adam: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), self._config.optimizer.clip_norm)
        adam.step()
        adam.zero_grad()


class Critic(nn.Module):
    """A number per chosen token, of what stands before it, on a model like the policy's."""

    def __init__(self, path: str) -> None:
        from transformers import AutoModel

        super().__init__()
        self.body = AutoModel.from_pretrained(path, dtype=torch.float32)
        self.head = nn.Linear(self.body.config.hidden_size, 1)

    def forward(self, token_ids: Tensor, positions: Tensor, is_target: Tensor) -> Tensor:
        hidden = self.body(
            input_ids=token_ids, position_ids=positions, attention_mask=None, use_cache=False
        ).last_hidden_state
        values: Tensor = self.head(hidden[:, :-1][is_target[:, 1:]])[:, 0]
        return values


def _tensors(micro_batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
    token_ids, positions, is_target = (
        torch.tensor(array)
        for array in (micro_batch.token_ids, micro_batch.positions, micro_batch.response_mask)
    )
    return token_ids, positions, is_target

"""The oracle of `tests.support.valued`: every rollout by itself, in float64, plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from oapl.config import RunConfig
from oapl.config.sections import AdamSection
from oapl.records import CreditedGroup
from tests.support.exact import Named, alone_logprobs
from tests.support.valued import CLIP, VALUE_CLIP, Config


class ExactCritic(nn.Module):
    """A model's hidden states under a linear head of zeros; names are the learner's."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.backbone = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).base_model
        self.head = nn.Linear(self.backbone.config.hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def values(self, prompt: np.ndarray, response: np.ndarray) -> Tensor:
        """Of the states before each of a response's tokens, [T]."""
        ids = torch.tensor(np.concatenate([prompt, response])).long()
        hidden = self.backbone(ids[None], use_cache=False).last_hidden_state[0]
        return self.head(hidden)[len(prompt) - 1 : -1, 0]


class Exact:
    """Policy, reference and critic, and iterations of them.

    Args:
        path: The model's folder, which the critic starts from too.
        config: Adam's settings, of both.
        dtype: Another one than float64 shows what plain PyTorch makes of it.
    """

    def __init__(self, path: Path, config: RunConfig, dtype: torch.dtype = torch.float64) -> None:
        self.policy = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        self.reference = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        self.critic = ExactCritic(path, dtype)
        self._penalty = Config().penalty
        self._warmup_steps = config.critic.warmup_steps
        self._adams = [
            _adam(self.policy, config.optimizer),
            _adam(self.critic, config.critic),
        ]
        self._known: dict[str, list[dict[str, Tensor]]] = {}
        self._steps = 0

    def load(self, policy: Named, critic: Named) -> None:
        """Take on other weights; names of the learner's modules."""
        for module, tensors in ((self.policy, policy), (self.critic, critic)):
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    parameter.copy_(tensors[name])

    @torch.no_grad()
    def prepare(self, groups: Sequence[CreditedGroup]) -> None:
        """Credit the tokens of an iteration, as the weights are now."""
        self._known = {group.id: [self._credited(*one) for one in _each(group)] for group in groups}
        every = torch.cat([one["advantage"] for known in self._known.values() for one in known])
        for known in self._known.values():
            for one in known:
                one["advantage"] = (one["advantage"] - every.mean()) / every.std(correction=0)

    def gradients(self, part: Sequence[CreditedGroup]) -> tuple[Named, Named]:
        """Of both losses over a mini-batch: the policy's and the critic's."""
        for adam in self._adams:
            adam.zero_grad()
        gains, errors = [], []
        for group in part:
            for one, (prompt, response, temperature, _) in zip(
                self._known[group.id], _each(group), strict=True
            ):
                now = alone_logprobs(self.policy, prompt, response, temperature)
                ratio = (now - one["old"]).exp()
                bounded = ratio.clamp(1 - CLIP, 1 + CLIP)
                gains.append(torch.minimum(ratio * one["advantage"], bounded * one["advantage"]))
                value = self.critic.values(prompt, response)
                near = one["value"] + (value - one["value"]).clamp(-VALUE_CLIP, VALUE_CLIP)
                errors.append(
                    torch.maximum((value - one["return"]) ** 2, (near - one["return"]) ** 2)
                )
        (-torch.cat(gains).mean()).backward()
        (torch.cat(errors).mean() / 2).backward()
        return _gradients(self.policy), _gradients(self.critic)

    def step(self, part: Sequence[CreditedGroup]) -> tuple[Named, Named]:
        """Update both; in the warm-up the critic alone. Returns their gradients."""
        found = self.gradients(part)
        for adam in self._adams[1 if self._steps < self._warmup_steps else 0 :]:
            adam.step()
        self._steps += 1
        return found

    def parameters(self) -> tuple[Named, Named]:
        """The policy's and the critic's."""
        policy, critic = (
            {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
            for module in (self.policy, self.critic)
        )
        return policy, critic

    def _credited(
        self, prompt: np.ndarray, response: np.ndarray, temperature: float, reward: float
    ) -> dict[str, Tensor]:
        old = alone_logprobs(self.policy, prompt, response, temperature)
        penalty = old - alone_logprobs(self.reference, prompt, response, temperature)
        returns = reward - self._penalty * penalty.flip(0).cumsum(0).flip(0)
        value = self.critic.values(prompt, response)
        return {"old": old, "value": value, "return": returns, "advantage": returns - value}


def _each(group: CreditedGroup) -> Iterator[tuple[np.ndarray, np.ndarray, float, float]]:
    """Prompt, response, temperature and reward of its rollouts."""
    sampled = group.scored.group
    for rollout, reward in zip(sampled.rollouts, group.scored.rewards, strict=True):
        yield (
            sampled.prompt.token_ids,
            rollout.token_ids,
            sampled.sampling.temperature,
            float(reward),
        )


def _gradients(module: nn.Module) -> Named:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def _adam(module: nn.Module, section: AdamSection) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        module.parameters(),
        lr=section.lr,
        betas=section.betas,
        eps=section.eps,
        weight_decay=section.weight_decay,
    )

"""The critic: a model's hidden states under a head that makes one number of each, a value.

Invariants: the head begins as zeros, so the first values are 0 whatever the weights below it, and
the first update moves the head alone; values are float32; rows are told apart by positions alone,
as the policy's are. The value of a token is that of the state *before* it: what the hidden state of
the token before it foretells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.models.language_model import load_language_model
from oapl.config import RunConfig


class Critic(nn.Module):
    """Answers with the values of the states before given tokens.

    Args:
        model: From `transformers`; its output layer is left behind.
        is_fp16: Matrix products below the head are of float16, the weights stay float32.
    """

    def __init__(self, model: Any, is_fp16: bool = False) -> None:
        super().__init__()
        self.backbone = model.base_model
        self.head = _Head(model.get_output_embeddings().weight)
        self._is_fp16 = is_fp16

    def forward(self, token_ids: Tensor, positions: Tensor, is_target: Tensor) -> Tensor:
        """Give each chosen token the value of what stands before it in its sequence.

        Args:
            token_ids: int64 [R, T].
            positions: int64 [R, T], restarting at 0 with each sequence.
            is_target: bool [R, T], never True on the first token of a sequence.

        Returns:
            float32 [N] of the N target tokens, row by row.
        """
        with torch.autocast(token_ids.device.type, torch.float16, enabled=self._is_fp16):
            hidden = self.backbone(
                input_ids=token_ids, position_ids=positions, attention_mask=None, use_cache=False
            ).last_hidden_state  # [R, T, H]
        values: Tensor = self.head(hidden[:, :-1][is_target[:, 1:]])
        return values


class _Head(nn.Module):
    """A linear map [H] -> [] in float32, of the width and dtype of an output layer [V, H]."""

    def __init__(self, output_layer: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(output_layer.new_zeros(1, output_layer.shape[1]))
        self.bias = nn.Parameter(output_layer.new_zeros(1))

    def forward(self, hidden: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return functional.linear(hidden.float(), weight, bias)[:, 0]


def load_critic(config: RunConfig) -> Critic:
    """Make a critic of `critic.path`, or of `model.path`, in the learner's precision, on the CPU.

    Raises:
        InputError: transformers makes no such model of it.
    """
    setting = "critic.path" if config.critic.path else "model.path"
    model = load_language_model(config, config.critic.path or config.model.path, setting)
    return Critic(model.train(), is_fp16=config.learner.precision == "fp16")

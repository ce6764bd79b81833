"""The model that is trained: a Hugging Face causal language model that answers with log-probs.

Invariants: log-probs are computed inside one `forward`, so that ZeRO-3 gathers the output layer
there; packed rows are told apart by positions alone, which works only without an attention mask and
without a cache (with either, sequences would see one another, silently).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from learner.models.language_model import load_language_model
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.logprobs import token_logprobs

RESCALED = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Configuration keys of models whose logits are more than hidden states times a matrix."""


class Policy(nn.Module):
    """Answers with the log-probs of given tokens; `language_model` is its `lm`.

    Args:
        language_model: From `transformers`.
        chunk_tokens: Rows of logits that exist at a time.
        is_fp16: Matrix products are of float16, the weights stay float32.
    """

    def __init__(self, language_model: Any, chunk_tokens: int, is_fp16: bool = False) -> None:
        super().__init__()
        self.lm = language_model
        self._chunk_tokens = chunk_tokens
        self._is_fp16 = is_fp16

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        is_target: Tensor,
        *,
        temperature: float,
        with_entropy: bool = False,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Score the chosen tokens: ln pi of each, given what stands before it in its sequence.

        Args:
            token_ids: int64 [R, T].
            positions: int64 [R, T], restarting at 0 with each sequence.
            is_target: bool [R, T], never True on the first token of a sequence.
            temperature: Divides the logits.
            with_entropy: Also the entropies.
            entropy_gradient: The entropies carry a gradient.

        Returns:
            Log-probs float32 [N] of the N target tokens, row by row, and entropies float32 [N]
            (empty if not asked for).
        """
        with torch.autocast(token_ids.device.type, torch.float16, enabled=self._is_fp16):
            hidden = self.lm.base_model(
                input_ids=token_ids, position_ids=positions, attention_mask=None, use_cache=False
            ).last_hidden_state  # [R, T, H]
            chosen = is_target[:, 1:]
            return token_logprobs(
                hidden[:, :-1][chosen],
                self.lm.get_output_embeddings().weight,
                token_ids[:, 1:][chosen],
                temperature=temperature,
                chunk_tokens=self._chunk_tokens,
                with_entropy=with_entropy,
                entropy_gradient=entropy_gradient,
            )

    def plain_logprobs(self, token_ids: Tensor) -> Tensor:
        """Score whole sequences as transformers does, which positions and packing must not change.

        Args:
            token_ids: int64 [R, T], a sequence per row.

        Returns:
            ln pi of tokens 1 to T - 1 at temperature 1, float32 [R, T - 1].
        """
        with torch.autocast(token_ids.device.type, torch.float16, enabled=self._is_fp16):
            logits: Tensor = self.lm(input_ids=token_ids, use_cache=False).logits  # [R, T, V]
        table = logits[:, :-1].float().log_softmax(-1)
        return table.gather(-1, token_ids[:, 1:, None])[..., 0]


def load_policy(config: RunConfig) -> Policy:
    """Load the model at `model.path`, in the learner's precision, on the CPU.

    Raises:
        InputError: transformers makes no such model of it, or its logits are not hidden states
            times a matrix.
    """
    model = load_language_model(config, config.model.path, "model.path")
    _check_output_layer(model, config.model.path)
    return Policy(
        model.train(),
        config.learner.logprob_chunk_tokens,
        is_fp16=config.learner.precision == "fp16",
    )


def _check_output_layer(model: Any, path: str) -> None:
    rescaled = [key for key in RESCALED if getattr(model.config, key, None) not in (None, 1.0)]
    if rescaled or getattr(model.get_output_embeddings(), "bias", None) is not None:
        reason = ", ".join(rescaled) or "a bias in the output layer"
        raise InputError(
            f"model.path = {path!r}: this {model.config.model_type} model has {reason}, and "
            f"log-probs here are those of hidden states times a matrix; use a Llama, Qwen2 or "
            f"Qwen3 model"
        )

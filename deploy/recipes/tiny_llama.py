"""A Llama of half a million parameters, made on the spot: three layers of width 128.

Its four heads have a size of 32, the smallest that vLLM's attention on a CPU takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(
    path: Path,
    tokenizer: Any,
    seed: int,
    *,
    context: int,
    spread: float,
    vocabulary: int | None = None,
    tied: bool = True,
) -> None:
    """Write model and tokenizer as transformers and vLLM load them.

    Args:
        path: Of the folder to be made.
        tokenizer: Knows its pad, bos and eos.
        seed: Of the weights.
        context: Tokens of the longest prompt with its response.
        spread: Standard deviation of the weights; at transformers' 0.02 attention is uniform for
            hundreds of steps.
        vocabulary: Rows of the embedding; None: as many as the tokenizer has.
        tied: Whether the head is the embedding.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) if vocabulary is None else vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=spread,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.max_length = context  # else 20, with a warning
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)

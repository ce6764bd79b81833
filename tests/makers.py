"""Tiny models with a character tokenizer, made in a second: what tests train and serve."""

from __future__ import annotations

import string
from pathlib import Path

SPECIAL = ["<pad>", "<bos>", "<eos>"]


def make_model(path: Path, *, vocab_size: int = 128, tied: bool = True, seed: int = 0) -> Path:
    """Save a Llama of 0.5M parameters and its tokenizer under `path`.

    Three layers of width 128 with 4 heads: vLLM's CPU attention wants a head size of 32.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    make_tokenizer(vocab_size).save_pretrained(path)
    return path


def make_tokenizer(vocab_size: int = 128):
    """One token per printable character, pad 0, bos 1, eos 2; unused ids up to `vocab_size`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = SPECIAL + [c for c in string.printable if c not in "\r\x0b\x0c"]
    tokens += [f"<unused{i}>" for i in range(len(tokens), vocab_size)]
    vocab = {token: i for i, token in enumerate(tokens[:vocab_size])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )

"""Tiny models with a character tokenizer, and groups for them: what tests train and serve."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.recipes import tiny_llama
from oapl.interfaces import Objective
from oapl.records import (
    CreditedGroup,
    Group,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
)

SPECIAL = ["<pad>", "<bos>", "<eos>"]


def make_model(path: Path, *, vocab_size: int = 128, tied: bool = True, seed: int = 0) -> Path:
    """Save a Llama of 0.5M parameters and its tokenizer under `path`."""
    tiny_llama.save(
        path,
        make_tokenizer(vocab_size),
        seed,
        context=512,
        spread=0.1,
        vocabulary=vocab_size,
        tied=tied,
    )
    return path


def make_wide_model(path: Path) -> Path:
    """Save a tied Llama of 42M parameters and its tokenizer under `path`: one whose weights are
    more than what a process takes anyway."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
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


def make_group(
    lengths: Sequence[int],
    *,
    rewards: Sequence[float] | None = None,
    prompt_length: int = 6,
    version: int = 0,
    name: str = "test:0@0",
    temperature: float = 1.0,
    vocab_size: int = 100,
    seed: int = 0,
) -> ScoredGroup:
    """A scored group of random tokens: one response per length; rewards 1, 0, 1, 0, ... ."""
    chance = np.random.default_rng(seed)

    def ids(length: int) -> np.ndarray:
        return chance.integers(3, vocab_size, size=length, dtype=np.int32)

    rollouts = tuple(
        Rollout(
            token_ids=ids(length),
            inference_logprobs=chance.normal(-4, 0.5, size=length).astype(np.float32),
            finish_reason="stop",
            text="",
            first_version=version,
            last_version=version,
        )
        for length in lengths
    )
    prompt = Prompt(
        id=name, text="", token_ids=ids(prompt_length), verifiers={}, reference={}, source="test"
    )
    values = [1.0 - i % 2 for i in range(len(lengths))] if rewards is None else rewards
    return ScoredGroup(
        group=Group(
            prompt=prompt,
            rollouts=rollouts,
            version=version,
            sampling=Sampling(temperature=temperature),
        ),
        rewards=np.array(values, dtype=np.float32),
        verdicts=tuple({} for _ in lengths),
    )


def make_groups(
    objective: Objective,
    *,
    num_groups: int = 3,
    group_size: int = 4,
    longest: int = 24,
    seed: int = 0,
    **options: float,
) -> list[CreditedGroup]:
    """Credited groups of random lengths, the last group two rollouts smaller than the others."""
    chance = np.random.default_rng(seed)
    groups = []
    for number in range(num_groups):
        size = group_size if number < num_groups - 1 else max(group_size - 2, 1)
        scored = make_group(
            chance.integers(1, longest + 1, size=size).tolist(),
            prompt_length=int(chance.integers(1, 12)),
            name=f"test:{number}@0",
            seed=seed + number,
            **options,  # type: ignore[arg-type]
        )
        groups.append(CreditedGroup(scored=scored, credit=objective.credit(scored)))
    return groups

"""Small sums of reasoning-gym, worked solutions of them, and a model small enough to learn them.

Half a million parameters and a byte-level tokenizer, made on the spot: what `oapl quickstart` and
the toy twins of the published recipes train, so that nothing has to be fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.recipes import tiny_llama

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ '\\n' }}"
SHORT_CONTEXT, SMALL_VOCABULARY = 256, 320


def problems(seed: int, *, min_terms: int, max_terms: int) -> Iterator[dict[str, Any]]:
    """Give sums of single digits whose texts all differ, so that no set overlaps another.

    Args:
        seed: Of reasoning-gym.
        min_terms, max_terms: Of a sum.

    Returns:
        Rows of `prompt`, `answer`, and the puzzle itself as `entry`.
    """
    import reasoning_gym

    seen: set[str] = set()
    data = reasoning_gym.create_dataset(
        "basic_arithmetic",
        seed=seed,
        size=10**6,
        min_terms=min_terms,
        max_terms=max_terms,
        min_digits=1,
        max_digits=1,
        operators=("+",),
        allow_parentheses=False,
        allow_negation=False,
    )
    for entry in data:
        if entry["question"] not in seen:
            seen.add(entry["question"])
            entry = json.loads(json.dumps(entry))
            yield {"prompt": entry["question"], "answer": entry["answer"], "entry": entry}


def steps(row: dict[str, Any]) -> str:
    """Write how a sum is added up, term by term.

    Args:
        row: Of `problems`.
    """
    terms = [int(term) for term in row["entry"]["metadata"]["expression"].split("+")]
    written, total = [], terms[0]
    for term in terms[1:]:
        written.append(f"{total}+{term}={total + term};")
        total += term
    return "".join(written)


def make_model(
    path: Path,
    texts: Sequence[str],
    seed: int,
    *,
    context: int = SHORT_CONTEXT,
    vocabulary: int = SMALL_VOCABULARY,
    tags: Sequence[str] = (),
) -> None:
    """Write a Llama of half a million parameters, and a byte-level BPE trained on `texts`.

    Args:
        path: Of the folder to be made.
        texts: As they will be seen.
        seed: Of the weights.
        context: Tokens of the longest prompt with its response.
        vocabulary: Tokens that there are.
        tags: Texts that are one token each, like `<|im_start|>`.
    """
    from transformers.utils.logging import disable_progress_bar

    tokenizer = _tokenizer(texts, vocabulary, tags)
    disable_progress_bar()  # of writing half a megabyte
    tiny_llama.save(path, tokenizer, seed, context=context, spread=0.06)


def _tokenizer(texts: Sequence[str], vocabulary: int, tags: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(False, use_regex=False),  # " + " is one: a fifth fewer
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<bos>", "<eos>", *tags],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer

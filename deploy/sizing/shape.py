"""The shape of a model, and the lengths of what it reads and writes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from oapl.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a decoder.

    Attributes:
        parameters: All of them, tied ones once.
        layers, hidden, intermediate, vocabulary: Counts and widths.
        heads, kv_heads, head_size: Of the attention.
        is_tied: The output layer is the embedding.
        has_head_norms: Queries and keys are normalised per head (Qwen3).
        critic: Of the critic that is trained beside it; None where there is none.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_size: int
    is_tied: bool
    has_head_norms: bool
    critic: Shape | None = None

    @property
    def query_width(self) -> int:
        """Numbers in a token's queries, over all heads."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Numbers in a token's keys, over all heads; its values are as many."""
        return self.kv_heads * self.head_size


def shape_of(model: Any, parameters: int | None = None) -> Shape:
    """Read the shape from a model's configuration.

    Args:
        model: The text part of a Hugging Face configuration.
        parameters: As counted in the weights; None counts those of a Llama of that shape.
    """
    heads = int(model.num_attention_heads)
    head_size = getattr(model, "head_dim", None) or model.hidden_size // heads
    shape = Shape(
        parameters=parameters or 0,
        layers=int(model.num_hidden_layers),
        hidden=int(model.hidden_size),
        intermediate=int(getattr(model, "intermediate_size", None) or 4 * model.hidden_size),
        vocabulary=int(model.vocab_size),
        heads=heads,
        kv_heads=int(getattr(model, "num_key_value_heads", None) or heads),
        head_size=int(head_size),
        is_tied=bool(getattr(model, "tie_word_embeddings", False)),
        has_head_norms=str(model.model_type).startswith("qwen3"),
    )
    has_bias = model.model_type == "qwen2" or getattr(model, "attention_bias", False)
    return shape if parameters else dataclasses.replace(shape, parameters=count(shape, has_bias))


def count(shape: Shape, has_bias: bool = False) -> int:
    """Count the parameters of a Llama of this shape.

    Args:
        shape: Its own count is not read.
        has_bias: On queries, keys and values, as Qwen2 has it.
    """
    queries, keys = shape.query_width, shape.key_width
    attention = shape.hidden * (2 * queries + 2 * keys) + (queries + 2 * keys if has_bias else 0)
    norms = 2 * shape.hidden + (2 * shape.head_size if shape.has_head_norms else 0)
    layer = attention + norms + 3 * shape.hidden * shape.intermediate
    tables = (1 if shape.is_tied else 2) * shape.vocabulary * shape.hidden
    return shape.layers * layer + tables + shape.hidden


def critic_of(shape: Shape) -> Shape:
    """Give a model the shape of a critic: a head of one number in its output layer's place.

    Args:
        shape: The model's.
    """
    output_layer = 0 if shape.is_tied else shape.vocabulary * shape.hidden
    parameters = shape.parameters - output_layer + shape.hidden + 1
    return dataclasses.replace(shape, parameters=parameters, is_tied=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of the longest prompt, of the longest sequence, and of one with half a response."""

    prompt: int
    longest: int
    middle: int


def lengths_of(config: RunConfig, context: int, longest_prompt: int | None) -> Lengths:
    """Work out the lengths from the data's longest prompt, or else from the whole context.

    Args:
        config: The run, for the length of a response.
        context: Tokens that the model reads at most.
        longest_prompt: In tokens; None where it is not known.
    """
    response = config.rollout.max_tokens
    prompt = max(context - response, 1) if longest_prompt is None else longest_prompt
    longest = min(prompt + response, context)
    return Lengths(prompt=prompt, longest=longest, middle=min(prompt + response // 2, longest))


def lengths_of_set(longest_prompt: int, longest: int) -> Lengths:
    """Give the lengths of what is stored.

    Args:
        longest_prompt: In tokens.
        longest: Of the longest prompt with its response, in tokens.
    """
    return Lengths(prompt=longest_prompt, longest=longest, middle=(longest_prompt + longest) // 2)

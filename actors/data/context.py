"""How many tokens a prompt and its response may have together.

A model whose rotary embedding is stretched reads further than its `max_position_embeddings` says.
What stretches, and by how much, is as vLLM has it, but for YaRN: there vLLM 0.32 takes the number
as it is, while model cards tell to add the factor and leave the number; so vLLM is told ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actors.data.tokenizer import load_model_config
from oapl.config import RunConfig
from oapl.errors import InputError

UNSTRETCHED = ("su", "longrope", "llama3", "deepseek_llama_scaling")
"""Kinds of rotary embedding whose `max_position_embeddings` is the stretched one."""


def context_of(model: Any) -> int:
    """Longest context that a model was made for, in tokens; 0 where it does not say.

    Args:
        model: Its configuration, as transformers reads it.
    """
    length = getattr(model, "max_position_embeddings", 0) or 0
    if "gemma3" in str(getattr(model, "model_type", "")):
        return int(length)
    return int(max([length, *(_stretched(length, rope) for rope in _ropes(model))]))


def context_tokens(config: RunConfig) -> int:
    """Longest prompt plus response: `rollout.context_tokens`, else what the model was made for.

    Raises:
        InputError: Neither says, or the setting is longer than the model's.
    """
    return _within_model(config, "rollout.context_tokens", config.rollout.context_tokens)


def evaluation_context(config: RunConfig) -> int:
    """Longest prompt plus response of an evaluation: `eval.context_tokens`, else that of rollouts.

    Raises:
        InputError: Neither says, or the setting is longer than the model's.
    """
    if not config.eval.context_tokens:
        return context_tokens(config)
    return _within_model(config, "eval.context_tokens", config.eval.context_tokens)


def engine_context(config: RunConfig) -> int:
    """Longest sequence that an engine is built for: of a rollout, or of an evaluation.

    Raises:
        InputError: See `context_tokens`.
    """
    of_evaluations = evaluation_context(config) if config.eval.sources else 0
    return max(context_tokens(config), of_evaluations)


def _within_model(config: RunConfig, key: str, wanted: int) -> int:
    of_model = context_of(load_model_config(config.model.path, config.model.trust_remote_code))
    if wanted and of_model and wanted > of_model:
        raise InputError(
            f"{key} = {wanted}: the model was made for {of_model} "
            f"(max_position_embeddings and rope_scaling); set it to at most {of_model}, or 0 for "
            "the model's own"
        )
    if not wanted and not of_model:
        raise InputError(
            "rollout.context_tokens = 0: the model's config.json does not say how long a context "
            "it was made for (max_position_embeddings); set rollout.context_tokens"
        )
    return wanted or of_model


def prompt_room(context: int, key: str, max_tokens: int) -> int:
    """Count the tokens that a prompt may have beside the longest response.

    Args:
        context: Longest prompt plus response, in tokens.
        key: The setting that `max_tokens` comes from, for the message.
        max_tokens: Of the longest response.

    Raises:
        InputError: None are left; `key` is named.
    """
    if max_tokens >= context:
        raise InputError(
            f"{key} = {max_tokens}: leaves no room for a prompt in a context of {context} tokens; "
            f"set it below {context}"
        )
    return context - max_tokens


def engine_overrides(model: Any) -> dict[str, int]:
    """What a vLLM must be told of a model's configuration, so that it serves `context_of` it.

    Args:
        model: Its configuration, as transformers reads it.
    """
    is_yarn = any("yarn" in _kind(rope) for rope in _ropes(model))
    is_told = context_of(model) <= (getattr(model, "max_position_embeddings", 0) or 0)
    return {"max_position_embeddings": context_of(model)} if is_yarn and not is_told else {}


def _ropes(model: Any) -> Iterator[Mapping[str, Any]]:
    """The parameters of each rotary embedding: one, or one per kind of layer."""
    found = getattr(model, "rope_parameters", None) or getattr(model, "rope_scaling", None) or {}
    nested = [inner for inner in found.values() if isinstance(inner, Mapping)]
    yield from nested or [found]


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _stretched(length: int, rope: Mapping[str, Any]) -> float:
    kind, factor = _kind(rope), float(rope.get("factor") or 1.0)
    if kind in UNSTRETCHED:
        return length
    original = rope.get("original_max_position_embeddings") if "yarn" in kind else None
    return factor * (original or length)

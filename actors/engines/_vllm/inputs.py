"""What both vLLM hosts give to vLLM: environment, engine arguments, sampling parameters, probe
requests.

Log-probs are those of the distribution sampled from (`processed_logprobs`); greedy decoding reports
them at temperature 1. Only names that vLLM 0.23 and 0.32 share are used here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from actors.data.context import engine_overrides
from actors.data.tokenizer import load_model_config
from oapl.config import RunConfig
from oapl.records import Sampling
from oapl.sampling import protocol_of

MAX_KV_BYTES = 2**30
"""Of a KV cache in main memory that nobody gave a size."""
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""vLLM 0.32 samples at the first whatever lies below it, and refuses what lies above the second."""


def problems(config: RunConfig, *, max_num_seqs: int, max_batched_tokens: int) -> Iterator[str]:
    """List what of the configuration vLLM refuses, or would do otherwise than it is asked.

    Args:
        config: The run.
        max_num_seqs, max_batched_tokens: The host's options.
    """
    for key, value in (
        ("rollout.temperature", config.rollout.temperature),
        ("eval.temperature", config.eval.temperature),
        *_of_sets(config),
    ):
        if not LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE:
            what = "refuses it" if value > MOST_TEMPERATURE else f"would take {LEAST_TEMPERATURE}"
            yield (
                f"{key} = {value:g}: vLLM samples at {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g} "
                f"and {what}; set it within these"
            )
    if 0 < max_batched_tokens < max_num_seqs:
        yield (
            f"rollout.engine_options.max_batched_tokens = {max_batched_tokens}: each of "
            f"max_num_seqs ({max_num_seqs}) sequences has a token in a forward pass; raise it, or "
            "lower rollout.engine_options.max_num_seqs"
        )


def environment(config: RunConfig) -> dict[str, str]:
    """What stands in the environment of every host before torch and vLLM are imported.

    Args:
        config: The run.
    """
    return {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": str(config.cluster.engine_threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _of_sets(config: RunConfig) -> Iterator[tuple[str, float]]:
    """Temperatures that evaluation sets have of their own."""
    for index, source in enumerate(config.eval.sources):
        if source.protocol or source.answers:
            yield (
                f"eval.sources.{index}: temperature",
                protocol_of(config, source).sampling.temperature,
            )


def engine_args(
    config: RunConfig,
    *,
    seed: int,
    context: int,
    max_num_seqs: int,
    prefix_caching: bool,
    max_batched_tokens: int,
    enforce_eager: bool,
) -> dict[str, Any]:
    """Give the arguments of vLLM's `EngineArgs` and `AsyncEngineArgs` that both hosts share.

    Args:
        config: The run.
        seed: Of the sampler; differs per engine and per build of it.
        context: Longest prompt plus response, tokens.
        max_num_seqs: Sequences sampled at a time.
        prefix_caching: Keep the KV of a prompt for the other rollouts of its group.
        max_batched_tokens: Most tokens in one forward pass; 0 leaves it to vLLM.
        enforce_eager: Do not compile the model.
    """
    from vllm.config.weight_transfer import WeightTransferConfig

    from actors.engines._vllm import weights

    weights.register()
    optional: dict[str, Any] = {}
    if max_batched_tokens:
        optional["max_num_batched_tokens"] = max_batched_tokens
    model = load_model_config(config.model.path, config.model.trust_remote_code)
    if overrides := engine_overrides(model):
        optional["hf_overrides"] = overrides
    return {
        "model": config.model.path,
        "dtype": config.model.dtype,
        "trust_remote_code": config.model.trust_remote_code,
        "tensor_parallel_size": config.rollout.tensor_parallel_size,
        "max_model_len": context,
        "seed": seed,
        "max_num_seqs": max_num_seqs,
        "enable_prefix_caching": prefix_caching,
        "enforce_eager": enforce_eager,
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "weight_transfer_config": WeightTransferConfig(backend=weights.BACKEND),
        "worker_extension_cls": weights.EXTENSION,
        **optional,
    }


def kv_bytes(config: RunConfig, *, context: int, max_num_seqs: int, block_size: int) -> int:
    """Size a KV cache for main memory, assuming that every layer keeps all heads.

    Args:
        config: Names the model.
        context: Longest prompt plus response, tokens.
        max_num_seqs: Whole contexts that there is room for, up to `MAX_KV_BYTES`.
        block_size: Tokens per KV block.

    Returns:
        Bytes; room for one whole context at least.
    """
    model = load_model_config(config.model.path, config.model.trust_remote_code)
    heads = model.num_attention_heads
    head_size = getattr(model, "head_dim", None) or model.hidden_size // heads
    kv_heads = getattr(model, "num_key_value_heads", None) or heads
    item_bytes = 4 if config.model.dtype == "float32" else 2
    block_bytes = 2 * model.num_hidden_layers * kv_heads * head_size * item_bytes * block_size
    blocks = -(-context // block_size)
    smallest, wanted = blocks + 1, blocks * max_num_seqs + 1
    return max(block_bytes * smallest, min(MAX_KV_BYTES, block_bytes * wanted))


@functools.lru_cache(maxsize=64)
def rollout_params(sampling: Sampling, is_scored: bool = False) -> Any:
    """Give vLLM's form of `sampling`; one object per kind, since vLLM clones it per request.

    Args:
        sampling: How to sample.
        is_scored: Tell the log-probs of what is sampled from, too, at temperature 1.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        logprobs=0,
        prompt_logprobs=0 if is_scored else None,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def probe_params() -> Any:
    """Say that a prompt is scored at temperature 1, which vLLM does without sampling processors and
    without its prefix cache.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def probe_prompts(probe_ids: Sequence[np.ndarray], context: int) -> list[list[int]]:
    """Give the probe's sequences to be scored.

    Args:
        probe_ids: Token ids [T] of each.
        context: Tokens; a sequence of this length loses its last one, since vLLM wants room for
            one more.
    """
    return [ids[: context - 1].tolist() for ids in probe_ids]


def probe_scores(outputs: Iterable[Any]) -> list[np.ndarray]:
    """Read per output float32 [S]: ln pi of each prompt token but the first."""
    return [np.array(out.prompt_logprobs.logprobs, dtype=np.float32) for out in outputs]

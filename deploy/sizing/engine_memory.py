"""One device of an engine: weights, a forward pass, and the KV cache that holds its rollouts."""

from __future__ import annotations

from typing import Any

from actors.data.context import engine_context
from actors.engines._vllm import inputs
from actors.engines.base import ENGINES, EngineFile
from actors.engines.vllm_async import CPU_BLOCK_SIZE
from deploy.sizing.hardware import Hardware
from deploy.sizing.memory import FP32, Memory, engine_item, fixed, kind
from deploy.sizing.shape import Lengths, Shape
from oapl.config import RunConfig, plugins
from oapl.devices.base import engine_name

BATCHED_TOKENS = {"cpu": 2048, "cuda": 8192, "npu": 8192}
"""Tokens in one forward pass of vLLM where nobody sets it."""


def engine_memory(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware | None
) -> Memory:
    """Count one device of one engine; its KV cache is what is left, where no setting says how much.

    Args:
        config: The run.
        shape: The model's.
        lengths: Of the sequences.
        hardware: Whose memory is left over; None counts a KV cache of unknown size as 0.
    """
    options = engine_options(config)
    degree = config.rollout.tensor_parallel_size
    item = engine_item(config)
    weights = -(-shape.parameters * item // degree)
    is_cpu = kind(config) == "cpu"
    if is_cpu and shape.is_tied:  # the kernels want a packed copy of the output layer
        weights += shape.vocabulary * shape.hidden * item
    batched = options.max_batched_tokens or BATCHED_TOKENS[kind(config)]
    rows = options.max_num_seqs * 3 * FP32  # logits, their log-softmax, the sampler's shares
    probe = min(batched, lengths.longest) * (item + 2 * FP32)
    tables = max(rows, probe) * -(-shape.vocabulary // degree)
    states = batched * (3 * shape.hidden + 3 * shape.intermediate // degree) * item
    parts = {
        "weights": weights,
        "forward pass": states + tables,
        **fixed(config, "engine"),
    }
    kv = options.kv_cache_bytes
    if not kv and is_cpu:
        kv = inputs.kv_bytes(
            config,
            context=engine_context(config),
            max_num_seqs=options.max_num_seqs,
            block_size=options.block_size or CPU_BLOCK_SIZE,
        )
    elif not kv and hardware is not None:
        kv = max(int(hardware.bytes * memory_fraction(config)) - sum(parts.values()), 0)
    return Memory(parts={"weights": weights, "KV cache": kv, **parts})


def kv_token_bytes(config: RunConfig, shape: Shape) -> int:
    """Count keys and values of one token on one device of an engine.

    Args:
        config: The run, whose tensor parallelism shares out the heads.
        shape: The model's.
    """
    degree = config.rollout.tensor_parallel_size
    item = engine_item(config)
    return 2 * shape.layers * max(shape.kv_heads // degree, 1) * shape.head_size * item


def rollouts_at_a_time(config: RunConfig, shape: Shape, lengths: Lengths, engine: Memory) -> str:
    """Say how many rollouts the KV cache holds.

    Args:
        config: The run.
        shape: The model's.
        lengths: Of the sequences.
        engine: As `engine_memory` counted it.
    """
    per_token, most = kv_token_bytes(config, shape), engine_options(config).max_num_seqs
    kv = engine.parts["KV cache"]
    if not kv:
        return f"{per_token * lengths.longest:,} bytes of KV cache each at {lengths.longest} tokens"
    at = [
        f"{min(kv // (per_token * tokens), most)} of {tokens} tokens"
        for tokens in (lengths.longest, lengths.middle)
    ]
    return f"at a time {at[0]}, or {at[1]} (engine_options.max_num_seqs = {most})"


def engine_options(config: RunConfig) -> Any:
    """Read `rollout.engine_options` as the engine file's own `Config`."""
    return plugins.parse(
        _engine_file(config).Config, config.rollout.engine_options, "rollout.engine_options."
    )


def memory_fraction(config: RunConfig) -> float:
    """The share of a card's memory that an engine fills."""
    return _engine_file(config).memory_fraction(config)


def _engine_file(config: RunConfig) -> EngineFile:
    return ENGINES.load(engine_name(config), "rollout.engine")

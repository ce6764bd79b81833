"""The settings that a model, its data and a device ask for, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.commands._init.looks import Data, Model

LEARNING_RATES = ((1e7, 5e-5), (3e8, 1e-5), (3e9, 2e-6))
"""Parameters up to which a rate holds; larger models get `LEAST_RATE`. A start, not a law."""
LEAST_RATE = 1e-6
RESPONSE_SHARE = 0.4
"""Of `rollout.max_tokens`, what a response takes as a rule."""
BETA2_AT, BETA2_POWER = (25.0, 0.1), 0.77
"""beta2 is 0.1 at 25 tokens and 1e-3 at 10^4, the two lengths for which values are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the device decides.

    Attributes:
        response: Most tokens of a response, where the model's context has the room.
    """

    dtype: str
    precision: str
    response: int
    batch_size: int
    micro_batch_tokens: int
    interval: int
    why_precision: str


CPU = Scale(
    dtype="float32",
    precision="fp32",
    response=256,
    batch_size=64,
    micro_batch_tokens=2048,
    interval=10,
    why_precision="on a CPU engine and learner agree exactly in fp32, and bf16 is no faster",
)
ACCELERATOR = Scale(
    dtype="bfloat16",
    precision="bf16",
    response=4096,
    batch_size=256,
    micro_batch_tokens=16384,
    interval=50,
    why_precision="half the memory; the probe after each publication bounds the difference",
)
GROUP_SIZE = 8
LARGE = 1e9
"""Parameters from which activations are recomputed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of the recipe: a setting's dotted key, its value, and why it is that."""

    key: str
    value: Any
    why: str = ""


def choices(model: Model, data: Data, device: str, name: str) -> Iterator[Choice]:
    """The settings that matter, in the order of the config's sections.

    Args:
        model, data: As they were seen.
        device: A file of oapl/devices.
        name: Of the run.
    """
    scale = CPU if device == "cpu" else ACCELERATOR
    response, context = _room(model, data, scale)
    groups_per_step = scale.batch_size // GROUP_SIZE
    yield Choice("run.name", name)
    yield Choice("run.max_steps", *_steps(len(data.lengths), groups_per_step, scale.interval))
    yield Choice("model.path", model.path)
    yield Choice("model.dtype", scale.dtype, scale.why_precision)
    yield Choice("data.sources.0.name", _source_name(data))
    yield Choice("data.sources.0.path", data.path)
    if data.prompt_key != "prompt":
        yield Choice("data.sources.0.prompt_key", data.prompt_key)
    if data.answer_key != "answer":
        yield Choice("data.sources.0.answer_key", data.answer_key)
    yield Choice("rollout.group_size", GROUP_SIZE)
    fits = f"prompts have {data.lengths[0]} to {data.lengths[-1]} tokens"
    yield Choice("rollout.max_tokens", response, fits)
    yield Choice("rollout.context_tokens", context, "bounds the engine's memory")
    yield Choice("reward.verifiers", {data.verifier: 1.0}, _answers(data))
    yield Choice("objective.name", "oapl")
    yield Choice("objective.beta1", 1.0)
    yield Choice("objective.beta2", _beta2(response), "for responses of this length")
    size = f"for {millions(model.parameters)} parameters; a start, not a law"
    yield Choice("optimizer.lr", _rate(model.parameters), size)
    yield Choice("learner.batch_size", scale.batch_size)
    yield Choice("learner.micro_batch_tokens", max(scale.micro_batch_tokens, context))
    yield Choice("learner.precision", scale.precision)
    if device == "cpu":
        yield Choice("learner.row_tokens", 1)
    elif model.parameters >= LARGE:
        yield Choice("learner.activation_checkpointing", True)
    yield Choice("sync.interval", scale.interval)
    if device != "cpu":
        yield Choice("cluster.device", device)


def _room(model: Model, data: Data, scale: Scale) -> tuple[int, int]:
    """Tokens of a response, and of prompt and response together."""
    longest = data.lengths[-1]
    if not model.context:
        return scale.response, longest + scale.response
    room = max(model.context - longest, model.context // 2)  # longer prompts are dropped
    response = min(scale.response, 1 << (room.bit_length() - 1))
    return response, min(model.context, -(-(longest + response) // 32) * 32)


def _steps(problems: int, groups_per_step: int, interval: int) -> tuple[int, str]:
    """Three epochs, between 100 and 1000 steps, whole periods."""
    wanted = min(max(3 * problems / groups_per_step, 100), 1000)
    steps = -(-int(wanted) // interval) * interval
    return steps, f"{steps * groups_per_step / problems:.1f} passes over {problems:,} problems"


def _source_name(data: Data) -> str:
    stem = Path(data.path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_.-]", "-", stem).lstrip("-._") or "data"


def _beta2(response: int) -> float:
    length, value = BETA2_AT
    beta2 = value * (length / max(response * RESPONSE_SHARE, length)) ** BETA2_POWER
    return float(f"{max(beta2, 1e-3):.0e}")


def _rate(parameters: int) -> float:
    return next((rate for most, rate in LEARNING_RATES if parameters <= most), LEAST_RATE)


def _answers(data: Data) -> str:
    shares = ", ".join(f"{share:.0%} {kind}" for kind, share in data.answers.items())
    return f"answers: {shares}"


def millions(parameters: int) -> str:
    """A count of parameters in words."""
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"

"""A learner rank at its fullest moment, the middle of a step: parameters, frozen copies of them,
masters and moments, all gradients, the activations of the longest packed row; and what stays of a
critic meanwhile.
"""

from __future__ import annotations

from deploy.sizing.memory import FP32, HALF, Memory, fixed, kind
from deploy.sizing.shape import Shape
from oapl.config import RunConfig
from oapl.config.objective import num_copies
from oapl.objectives.base import build

LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at a time (its default)."""
BUCKET_NUMBERS = 500_000_000
"""Numbers that ZeRO reduces or gathers at a time (its default)."""


def rank_memory(config: RunConfig, shape: Shape, longest: int) -> Memory:
    """Count one learner rank in the middle of a step, at micro-batches as full as they may be.

    Args:
        config: Its learner section counts, and the device.
        shape: The model's.
        longest: Tokens of the longest sequence, which is never split.
    """
    learner = config.learner
    item = HALF if learner.precision == "bf16" else FP32
    policy, host = _held(config, shape.parameters)
    weights = policy.pop("weights")
    own = _own(config, shape.parameters)
    numbers = own if learner.zero_stage == 3 else shape.parameters
    copies = num_copies(build(config.objective).declares.needs, config) * numbers * item
    tokens = max(learner.micro_batch_tokens, longest)
    passes = _pass_memory(config, shape, tokens, item)
    step = _step_bytes(config, shape, own)
    critic = 0
    if shape.critic is not None:
        held, of_critic = _held(config, shape.critic.parameters)
        # Policy and critic pass and step one after the other; up to stage 1 a step frees gradients.
        if learner.zero_stage < 2:
            policy["gradients"] = max(policy["gradients"], held.pop("gradients"))
        critic, host = sum(held.values()), host + of_critic
        its = _pass_memory(config, shape.critic, tokens, item)
        passes["activations"] = max(passes["activations"], its["activations"])
        step = max(step, _step_bytes(config, shape.critic, _own(config, shape.critic.parameters)))
    if kind(config) != "cpu":  # what the passes held is free by then; a heap keeps it
        step = max(step - passes["activations"] - passes["logits"], 0)
    if learner.offload != "none":
        step = 0
    beside = _beside(config, shape, copies)
    if learner.offload == "all":
        host, copies = host + copies, 0
    if kind(config) != "cpu":
        host, beside = host + beside, 0
    parts = {
        **{"weights": weights, "copies": copies, **policy, "critic": critic, **passes},
        "checkpoint beside": beside,
    }
    return Memory(parts={**parts, "step": step, **fixed(config, "learner")}, host=host)


def _beside(config: RunConfig, shape: Shape, copies: int) -> int:
    """What is copied of masters, moments and frozen copies to be written beside training."""
    if not config.checkpoint.beside:
        return 0
    numbers = shape.parameters + (shape.critic.parameters if shape.critic is not None else 0)
    return 3 * FP32 * _own(config, numbers) + copies


def _own(config: RunConfig, numbers: int) -> int:
    """Of a network's parameters, those of this rank's shard."""
    learner = config.learner
    return -(-numbers // (learner.num_ranks if learner.zero_stage else 1))


def _held(config: RunConfig, numbers: int) -> tuple[dict[str, int], int]:
    """What is kept of a network of so many parameters: by part on the device, and on the host."""
    learner, stage = config.learner, config.learner.zero_stage
    is_bf16 = learner.precision == "bf16"
    item = HALF if is_bf16 else FP32
    own = _own(config, numbers)
    bucket = min(numbers, BUCKET_NUMBERS)
    weights = (own + min(numbers, LIVE_PARAMETERS)) * item if stage == 3 else numbers * item
    masters = own * FP32 if stage or is_bf16 else 0
    moments = 2 * own * FP32
    if stage < 2:
        gradients = numbers * (FP32 if is_bf16 and stage else item)
    else:
        gradients = own * (FP32 if is_bf16 else item) + bucket * item
    if learner.precision == "fp16":  # autocast keeps a cast of every matrix until the step
        weights += numbers * HALF
    host = 0
    if learner.offload != "none":
        host = masters + moments + own * FP32  # the shard's gradient is copied there
        masters = moments = 0
    if learner.offload == "all":
        host += own * item
        weights -= own * item
    parts = {"weights": weights, "masters": masters, "moments": moments, "gradients": gradients}
    return parts, host


def _step_bytes(config: RunConfig, shape: Shape, own: int) -> int:
    """What the optimizer's update makes and drops: on a CPU the shard's flat gradient (bf16 has it
    already) and two tables of AdamW, on a card one. Stage 0 in fp32 goes tensor by tensor."""
    learner = config.learner
    if kind(config) != "cpu":
        return own * FP32
    if not learner.zero_stage and learner.precision != "bf16":
        return 2 * shape.vocabulary * shape.hidden * FP32
    return (2 if learner.precision == "bf16" else 3) * own * FP32


def _pass_memory(config: RunConfig, shape: Shape, tokens: int, item: int) -> dict[str, int]:
    """Activations that a forward pass over `tokens` keeps, and the logits of one chunk."""
    learner = config.learner
    layer = activation_bytes(shape, item)
    row = min(learner.row_tokens or tokens, tokens)
    mask = 0
    if row > 1 and config.model.attn_implementation == "sdpa":
        # A row of several sequences has a mask, which sdpa keeps per layer, and its heads of keys
        # and values are repeated.
        mask = row * item
        layer += 2 * (shape.query_width - shape.key_width) * item
    layer += mask
    ends = shape.hidden * (2 * FP32 + 2 * item)  # embedding, last norm, states of the targets
    if learner.activation_checkpointing:
        kept = shape.layers * shape.hidden * item + layer + mask
    else:
        kept = shape.layers * layer
    chunk = min(learner.logprob_chunk_tokens, tokens)
    head = shape.vocabulary * shape.hidden
    logits = chunk * shape.vocabulary * (2 * FP32 + (item if item != FP32 else 0))
    return {"activations": tokens * (kept + ends), "logits": logits + head * FP32}


def activation_bytes(shape: Shape, item: int) -> int:
    """Count the bytes per token that the backward pass of one layer needs, without a mask.

    Per norm its input and the normalised states (in float32 before the cast); inputs of the three
    projections; queries, keys, values, attention's output and its sums; four widths of the
    feed-forward part.

    Args:
        shape: The model's.
        item: Bytes of a number in the passes.
    """
    norms = 2 * (shape.hidden * (FP32 + item) + FP32)
    inputs = (2 * shape.hidden + shape.query_width) * item
    attention = (shape.query_width + 2 * shape.key_width) * item + shape.heads * FP32
    if shape.has_head_norms:
        width = shape.query_width + shape.key_width
        attention += width * (FP32 + item) + (shape.heads + shape.kv_heads) * FP32
    return norms + inputs + attention + 4 * shape.intermediate * item

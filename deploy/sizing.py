"""What a run will use, counted before anything is loaded: memory by part, rollouts, bytes sent.

Pure arithmetic from a configuration and a model's shape to records; nothing is started, and no
weight is read. A learner rank is counted at its fullest moment, the middle of a step: parameters,
masters and moments, all gradients, the activations of the longest packed row. What cannot fit is
refused with a setting that makes it fit, found by counting again. Figures hold for decoders of
the Llama kind (Llama, Qwen2, Qwen3, Mistral): others come out low.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors import vllm_inputs
from actors.engines.vllm_async import CPU_BLOCK_SIZE
from actors.tokenizer import context_tokens
from deploy.hardware import GIB, Hardware
from oapl import plugins
from oapl.config import RunConfig
from oapl.devices.base import engine_name, num_devices
from oapl.weights.object_store import KEPT_VERSIONS

FP32, HALF = 4, 2
"""Bytes of a number."""
LIBRARIES = {
    "cpu": {"learner": 0.35, "engine": 0.53},
    "cuda": {"learner": 1.5, "engine": 1.5},
    "npu": {"learner": 2.0, "engine": 2.0},
}
"""GiB before the model: on a CPU as measured after the imports; elsewhere an allowance for context,
workspaces and collective buffers."""
HEAP = {"cpu": {"learner": 0.30, "engine": 0.29}}
"""GiB that the C library's heap and workspaces come to keep beside the counted parts, as measured
with models of 40 and 135 million parameters."""
OTHERS_CPU_GIB = 1.2
"""GiB of driver, Ray's servers, replay and a reward server with two workers, on a CPU."""
STORE_BYTES = 512 * 2**20
"""Of Ray's object store beside publications."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at a time (its default)."""
BUCKET_NUMBERS = 500_000_000
"""Numbers that ZeRO reduces or gathers at a time (its default)."""
BATCHED_TOKENS = {"cpu": 2048, "cuda": 8192, "npu": 8192}
"""Tokens in one forward pass of vLLM where nobody sets it."""
USABLE = 0.95
"""Of a card, for a learner rank: the rest goes to fragments and to the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of a decoder.

    Attributes:
        parameters: All of them, tied ones once.
        layers, hidden, intermediate, vocabulary: Counts and widths.
        heads, kv_heads, head_size: Of the attention.
        is_tied: The output layer is the embedding.
        has_head_norms: Queries and keys are normalised per head (Qwen3).
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

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        return self.kv_heads * self.head_size


def shape_of(model: Any, parameters: int | None = None) -> Shape:
    """The shape that a model's configuration describes.

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
    """Parameters of a Llama of this shape; with a bias on queries, keys and values for Qwen2."""
    queries, keys = shape.query_width, shape.key_width
    attention = shape.hidden * (2 * queries + 2 * keys) + (queries + 2 * keys if has_bias else 0)
    norms = 2 * shape.hidden + (2 * shape.head_size if shape.has_head_norms else 0)
    layer = attention + norms + 3 * shape.hidden * shape.intermediate
    tables = (1 if shape.is_tied else 2) * shape.vocabulary * shape.hidden
    return shape.layers * layer + tables + shape.hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes by part, of one process on its device, and what it keeps in its host's memory."""

    parts: Mapping[str, int]
    host: int = 0

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_size(size)}" for name, size in self.parts.items() if size)
        host = f"; in the host's memory {_size(self.host)}" if self.host else ""
        return f"{_size(self.total)}: {parts}{host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a run will use.

    Attributes:
        rank, engine: Of one learner rank, and of one device of an engine (None for imitation).
        facts: Name to one line of text.
        problems: What does not fit, each with a setting to change.
        unchecked: What could not be looked at from here.
    """

    rank: Memory
    engine: Memory | None
    facts: Mapping[str, str]
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of the longest prompt, of the longest sequence, and of one with half a response."""

    prompt: int
    longest: int
    middle: int


def lengths_of(config: RunConfig, context: int, longest_prompt: int | None) -> Lengths:
    """From the data's longest prompt; where that is not known, from the whole context."""
    response = config.rollout.max_tokens
    prompt = max(context - response, 1) if longest_prompt is None else longest_prompt
    longest = min(prompt + response, context)
    return Lengths(prompt=prompt, longest=longest, middle=min(prompt + response // 2, longest))


def rank_memory(config: RunConfig, shape: Shape, longest: int) -> Memory:
    """One learner rank in the middle of a step, at micro-batches as full as they may be.

    Args:
        config: Its learner section counts, and the device.
        shape: The model's.
        longest: Tokens of the longest sequence, which is never split.
    """
    learner, numbers = config.learner, shape.parameters
    ranks, stage = learner.num_ranks, learner.zero_stage
    shards = ranks if stage else 1
    is_bf16 = learner.precision == "bf16"
    item = HALF if is_bf16 else FP32
    own = -(-numbers // shards)  # numbers of this rank's shard
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
    parts = {
        "weights": weights,
        "masters": masters,
        "moments": moments,
        "gradients": gradients,
        **_pass_memory(config, shape, max(learner.micro_batch_tokens, longest), item),
    }
    step = _step_bytes(config, shape, own)
    if _kind(config) != "cpu":  # what the passes held is free by then; a heap keeps it
        step = max(step - parts["activations"] - parts["logits"], 0)
    host = 0
    if learner.offload != "none":
        host += masters + moments + own * FP32  # the shard's gradient is copied there
        parts |= {"masters": 0, "moments": 0}
        step = 0
    if learner.offload == "all":
        host += own * item
        parts["weights"] -= own * item
    return Memory(parts={**parts, "step": step, **_fixed(config, "learner")}, host=host)


def _fixed(config: RunConfig, who: str) -> dict[str, int]:
    kind = _kind(config)
    heap = HEAP.get(kind, {}).get(who, 0.0)
    return {"libraries": int(LIBRARIES[kind][who] * GIB), "heap": int(heap * GIB)}


def _step_bytes(config: RunConfig, shape: Shape, own: int) -> int:
    """What the optimizer's update makes and drops: on a CPU the shard's flat gradient (bf16 has it
    already) and two tables of AdamW, on a card one. Stage 0 in fp32 goes tensor by tensor."""
    learner = config.learner
    if _kind(config) != "cpu":
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
    """Bytes per token that the backward pass of one layer needs, without an attention mask.

    Per norm its input and the normalised states (in float32 before the cast); inputs of the three
    projections; queries, keys, values, attention's output and its sums; four widths of the
    feed-forward part.
    """
    norms = 2 * (shape.hidden * (FP32 + item) + FP32)
    inputs = (2 * shape.hidden + shape.query_width) * item
    attention = (shape.query_width + 2 * shape.key_width) * item + shape.heads * FP32
    if shape.has_head_norms:
        width = shape.query_width + shape.key_width
        attention += width * (FP32 + item) + (shape.heads + shape.kv_heads) * FP32
    return norms + inputs + attention + 4 * shape.intermediate * item


def engine_memory(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware | None
) -> Memory:
    """One device of one engine; its KV cache is what is left, where no setting says how much.

    Without `hardware` a KV cache of unknown size counts 0.
    """
    options = _engine_options(config)
    degree = config.rollout.tensor_parallel_size
    item = FP32 if config.model.dtype == "float32" else HALF
    weights = -(-shape.parameters * item // degree)
    is_cpu = _kind(config) == "cpu"
    if is_cpu and shape.is_tied:  # the kernels want a packed copy of the output layer
        weights += shape.vocabulary * shape.hidden * item
    batched = options.max_batched_tokens or BATCHED_TOKENS[_kind(config)]
    rows = options.max_num_seqs * 3 * FP32  # logits, their log-softmax, the sampler's shares
    probe = min(batched, lengths.longest) * (item + 2 * FP32)
    tables = max(rows, probe) * -(-shape.vocabulary // degree)
    states = batched * (3 * shape.hidden + 3 * shape.intermediate // degree) * item
    parts = {
        "weights": weights,
        "forward pass": states + tables,
        **_fixed(config, "engine"),
    }
    kv = options.kv_cache_bytes
    if not kv and is_cpu:
        kv = vllm_inputs.kv_bytes(
            config,
            context=context_tokens(config),
            max_num_seqs=options.max_num_seqs,
            block_size=options.block_size or CPU_BLOCK_SIZE,
        )
    elif not kv and hardware is not None:
        kv = max(int(hardware.bytes * _memory_fraction(config)) - sum(parts.values()), 0)
    return Memory(parts={"weights": weights, "KV cache": kv, **parts})


def kv_token_bytes(config: RunConfig, shape: Shape) -> int:
    """Keys and values of one token on one device of an engine."""
    degree = config.rollout.tensor_parallel_size
    item = FP32 if config.model.dtype == "float32" else HALF
    return 2 * shape.layers * max(shape.kv_heads // degree, 1) * shape.head_size * item


def publication_bytes(config: RunConfig, shape: Shape) -> int:
    """All parameters in the engines' dtype."""
    return shape.parameters * (FP32 if config.model.dtype == "float32" else HALF)


def store_bytes(config: RunConfig, shape: Shape) -> int:
    """Of the object store of a Ray of our own: the publications that are kept, the one that is
    being written, and room for rollouts."""
    if config.is_imitation or config.sync.transport != "object_store":
        return STORE_BYTES
    return STORE_BYTES + (KEPT_VERSIONS + 1) * publication_bytes(config, shape)


def size(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware | None = None
) -> Sizing:
    """What the run will use, and whether it fits.

    Args:
        config: The run; its device is `hardware`'s.
        shape: The model's.
        lengths: Of the sequences.
        hardware: Where it is to run; None: cannot be seen.
    """
    rank = rank_memory(config, shape, lengths.longest)
    facts = {"learner rank": str(rank)}
    engine = None
    if not config.is_imitation:
        engine = engine_memory(config, shape, lengths, hardware)
        facts["engine"] = str(engine)
        facts["rollouts"] = _rollouts(config, shape, lengths, engine)
        published = publication_bytes(config, shape)
        facts["publication"] = f"{published:,} bytes of {config.model.dtype}"
    problems: list[str] = []
    unchecked: list[str] = []
    if hardware is None:
        unchecked.append(
            f"memory: no {_kind(config)} device can be seen from here; add --for, as in "
            f"--for {_kind(config)}:8x80GiB"
        )
    elif hardware.device == "cpu":
        facts["memory"], problems = _on_machines(config, shape, lengths, hardware)
    else:
        facts["devices"], problems = _on_cards(config, shape, lengths, hardware)
        if rank.host:
            unchecked.append(f"host memory: {_size(rank.host)} for each learner rank")
    return Sizing(
        rank=rank,
        engine=engine,
        facts=facts,
        problems=tuple(problems),
        unchecked=tuple(unchecked),
    )


def _rollouts(config: RunConfig, shape: Shape, lengths: Lengths, engine: Memory) -> str:
    per_token, most = kv_token_bytes(config, shape), _engine_options(config).max_num_seqs
    kv = engine.parts["KV cache"]
    if not kv:
        return f"{per_token * lengths.longest:,} bytes of KV cache each at {lengths.longest} tokens"
    at = [
        f"{min(kv // (per_token * tokens), most)} of {tokens} tokens"
        for tokens in (lengths.longest, lengths.middle)
    ]
    return f"at a time {at[0]}, or {at[1]} (engine_options.max_num_seqs = {most})"


# -- does it fit ---------------------------------------------------------------------------------

Change = tuple[str, Callable[[RunConfig], RunConfig]]


def _on_machines(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware
) -> tuple[str, list[str]]:
    """Everything in main memory."""

    def used(candidate: RunConfig) -> int:
        total = int(OTHERS_CPU_GIB * GIB) * hardware.count
        total += candidate.learner.num_ranks * rank_memory(candidate, shape, lengths.longest).total
        if not candidate.is_imitation:
            engine = engine_memory(candidate, shape, lengths, hardware)
            total += candidate.rollout.num_engines * engine.total
            total += KEPT_VERSIONS * publication_bytes(candidate, shape)
        return total

    there = hardware.bytes * hardware.count
    fact = f"{_size(used(config))} of {hardware}"
    if used(config) <= there:
        return fact, []
    changes = [*_learner_changes(config, lengths), *_engine_changes(config, shape, lengths)]
    remedy = _remedy(config, lambda candidate: used(candidate) <= there, changes)
    return fact, [f"the run needs {_size(used(config))}, but there are {hardware}; {remedy}"]


def _on_cards(
    config: RunConfig, shape: Shape, lengths: Lengths, hardware: Hardware
) -> tuple[str, list[str]]:
    """Learner ranks and engines on cards of their own, or sharing some."""
    learner, rollout = config.learner, config.rollout
    per_rank, per_engine = _shares(config)
    for_ranks = learner.num_ranks * per_rank
    for_engines = 0.0 if config.is_imitation else rollout.num_engines * per_engine
    used = -(-(for_ranks + for_engines) // 1)
    idle = hardware.count - int(used)
    fact = (
        f"{hardware}: {for_ranks:g} for {learner.num_ranks} learner ranks, {for_engines:g} for "
        f"{rollout.num_engines} engines, {max(idle, 0)} idle"
    )
    more = int((hardware.count - for_ranks) // per_engine)
    problems = []
    if idle < 0:
        remedy = f"set rollout.num_engines = {more}" if more > 0 else "lower learner.num_ranks"
        problems.append(
            f"learner.num_ranks = {learner.num_ranks} and rollout.num_engines = "
            f"{rollout.num_engines} take {int(used)} devices, but there are {hardware.count}; "
            f"{remedy}"
        )
    elif idle >= per_engine and not config.is_imitation:
        fact += f" (rollout.num_engines = {more} would use them)"

    def rank_fits(candidate: RunConfig) -> bool:
        room = hardware.bytes * USABLE
        if per_rank < 1 and not candidate.is_imitation:
            room -= hardware.bytes * _memory_fraction(candidate)
        return rank_memory(candidate, shape, lengths.longest).total <= room

    if not rank_fits(config):
        rank = rank_memory(config, shape, lengths.longest)
        remedy = _remedy(config, rank_fits, _learner_changes(config, lengths, hardware))
        problems.append(f"a learner rank needs {_size(rank.total)} of {hardware}; {remedy}")

    def engine_fits(candidate: RunConfig) -> bool:
        engine = engine_memory(candidate, shape, lengths, hardware)
        needed = kv_token_bytes(candidate, shape) * lengths.longest
        room = hardware.bytes * _memory_fraction(candidate)
        return engine.parts["KV cache"] >= needed and engine.total <= room

    if not config.is_imitation and not engine_fits(config):
        remedy = _remedy(config, engine_fits, _engine_changes(config, shape, lengths))
        problems.append(
            f"an engine has no room for one rollout of {lengths.longest} tokens in "
            f"{_memory_fraction(config):.2f} of {hardware}; {remedy}"
        )
    return fact, problems


def _learner_changes(
    config: RunConfig, lengths: Lengths, hardware: Hardware | None = None
) -> Iterator[Change]:
    """Settings that save the learner's memory, those that cost least first."""
    learner = config.learner
    if not learner.activation_checkpointing:
        yield _change("learner", "activation_checkpointing", True)
    smaller = learner.micro_batch_tokens // 2
    while smaller >= lengths.longest:
        yield _change("learner", "micro_batch_tokens", smaller)
        smaller //= 2
    if learner.zero_stage < 3 and learner.num_ranks > 1:
        yield _change("learner", "zero_stage", 3)
    if hardware is None:
        return
    if learner.offload == "none":
        yield _change("learner", "offload", "optimizer")
    ranks = 2 * learner.num_ranks
    while ranks < hardware.count:
        yield _change("learner", "num_ranks", ranks)
        ranks *= 2


def _engine_changes(config: RunConfig, shape: Shape, lengths: Lengths) -> Iterator[Change]:
    """Settings that save an engine's memory."""
    if config.is_imitation:
        return
    if _kind(config) == "cpu":
        smallest = kv_token_bytes(config, shape) * 2 * lengths.longest
        for key, value in (("max_num_seqs", 32), ("max_num_seqs", 8), ("kv_cache_bytes", smallest)):
            yield _option(key, value)
        return
    degree = config.rollout.tensor_parallel_size
    for larger in (2, 4, 8, 16):
        if larger > degree and not shape.heads % larger:
            yield _change("rollout", "tensor_parallel_size", larger)


def _change(section: str, key: str, value: Any) -> Change:
    def apply(config: RunConfig) -> RunConfig:
        changed = dataclasses.replace(getattr(config, section), **{key: value})
        return dataclasses.replace(config, **{section: changed})

    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{section}.{key} = {shown}", apply


def _option(key: str, value: Any) -> Change:
    def apply(config: RunConfig) -> RunConfig:
        options = {**config.rollout.engine_options, key: value}
        rollout = dataclasses.replace(config.rollout, engine_options=options)
        return dataclasses.replace(config, rollout=rollout)

    return f"rollout.engine_options.{key} = {value}", apply


def _remedy(
    config: RunConfig, fits: Callable[[RunConfig], bool], changes: Iterator[Change] | list[Change]
) -> str:
    """The first change that is enough alone, else the changes that are enough together."""
    changes = list(changes)
    for text, apply in changes:
        if fits(apply(config)):
            return f"set {text}"
    taken: dict[str, str] = {}  # a key's last change stands
    for text, apply in changes:
        config = apply(config)
        taken[text.partition(" = ")[0]] = text
        if fits(config):
            return f"set {' and '.join(taken.values())}"
    return "no setting is enough, so it takes more or larger devices, or a smaller model"


def _shares(config: RunConfig) -> tuple[float, float]:
    """Devices of a learner rank and of an engine."""
    return num_devices(config, "trainer"), num_devices(config, "worker")


def _kind(config: RunConfig) -> str:
    return config.cluster.device if config.cluster.device in LIBRARIES else "cuda"


def _engine_module(config: RunConfig) -> Any:
    return plugins.load("actors.engines", engine_name(config), "rollout.engine")


def _engine_options(config: RunConfig) -> Any:
    return _engine_module(config).Config(**config.rollout.engine_options)


def _memory_fraction(config: RunConfig) -> float:
    """Share of a card's memory that an engine fills."""
    return float(_engine_module(config).memory_fraction(config))


def _size(number: float) -> str:
    return f"{number / GIB:.2f} GiB"

"""Rates that nobody has measured, from what cards can do and how large the model is.

Each says in words what it rests on. They are good for orders of magnitude and for what bounds a
run; for hours, measure.
"""

from __future__ import annotations

from deploy.planning.cards import Card
from deploy.planning.model import Model
from deploy.planning.recipe import most_sequences
from deploy.sizing.hardware import Hardware
from deploy.sizing.memory import engine_item
from oapl.config import RunConfig
from oapl.objectives.base import build
from oapl.planning.lengths import Table
from oapl.planning.rates import ASSUMED, Rate, Rates

LEARNER_SHARE = 0.3
"""Of a card's operations that a learner rank makes use of (MFU)."""
ENGINE_SHARE = 0.5
"""Of a card's bandwidth, and of its operations, that a decoding engine makes use of."""
DECODE_S = 0.005
"""Of a decoding step beside reading and multiplying: launches, sampling, scheduling."""
MEMORY_SHARE, CARD_GIB = 0.8, 80
"""Of a card, for weights and KV cache; and a card whose memory is not said."""
PROMPT_TOKENS = 200.0
BETWEEN_S = 0.1
"""From a learner step to the next: messages, as measured on two busy cores."""
STEP_S = 1.0
"""Of a step beside its tokens, on cards: the optimizer, and what is communicated once."""
JUDGE_S = {"code": 2.0, "judge": 5.0, "function": 0.1}
RULE_S = 0.01
"""Of a response: programs are run against tests, a judge answers, rules read."""
HOST, NETWORK, DISK = 2e9, 10e9, 2e9
REPLAY_TOKENS_PER_S = 8e6
"""Through the replay buffer: 250 groups of 8 x 4,000 tokens a second on two cores, by `make bench`.
"""
PASSES = {"proximal", "reference", "previous", "sampler"}
"""Needs of an objective that are a forward pass more, a third of forward and backward."""


def assumed(
    config: RunConfig, model: Model, card: Card, lengths: Table, hardware: Hardware | None
) -> Rates:
    """Assume everything.

    Args:
        config: The run.
        model: Its model.
        card: Each device.
        lengths: Of the groups.
        hardware: For the memory of a card.
    """

    def rate(value: float, why: str) -> Rate:
        return Rate(value, ASSUMED, why)

    speed, at_work, alone = _engine(config, model, card, lengths, hardware)
    of_memory = (
        f"{ENGINE_SHARE:.0%} of the bandwidth of {card.name}, contexts of {_context(lengths):.0f}"
        + (", keys and values guessed by the model's size" if model.is_assumed else "")
    )
    return Rates(
        learner_tokens_per_s=rate(
            _learner(config, model, card, lengths),
            f"{LEARNER_SHARE:.0%} of {card.peak / 1e12:.0f} TFLOPS of {card.name}",
        ),
        step_s=rate(STEP_S if config.cluster.device != "cpu" else 0.0, "optimizer"),
        between_s=rate(BETWEEN_S, "messages"),
        engine_tokens_per_s=rate(speed, of_memory),
        engine_rollouts=rate(at_work, "in flight by the recipe, or what the KV cache holds"),
        alone=rate(alone, of_memory),
        prompt_tokens=rate(PROMPT_TOKENS, ""),
        kept=rate(1.0, "no group is dropped"),
        judge_s=rate(_judge_s(config), "mean over the sources, by their verifiers"),
        host_bytes_per_s=rate(HOST, ""),
        network_bytes_per_s=rate(NETWORK, ""),
        disk_bytes_per_s=rate(DISK, "shared storage"),
        replay_tokens_per_s=rate(REPLAY_TOKENS_PER_S, "make bench on two cores"),
    )


def _learner(config: RunConfig, model: Model, card: Card, lengths: Table) -> float:
    """Of one rank; operations as `perf/mfu` counts them, and a critic as the model once more."""
    declares = build(config.objective).declares
    operations = 6 * model.parameters + 6 * model.attention * _length(lengths)
    extra = len(PASSES & set(declares.needs)) / 3
    networks = 2 if "values" in declares.needs else 1
    return LEARNER_SHARE * card.peak / (operations * (networks + extra))


def _engine(
    config: RunConfig, model: Model, card: Card, lengths: Table, hardware: Hardware | None
) -> tuple[float, float, float]:
    """Tokens per second of a full engine, its rollouts at work, and the speed of one alone."""
    cards = config.rollout.tensor_parallel_size
    item = engine_item(config)
    context = _context(lengths)
    memory = hardware.bytes if hardware is not None else CARD_GIB * 2**30
    room = cards * memory * MEMORY_SHARE - model.parameters * item
    in_flight = config.rollout.max_groups_in_flight * lengths.activity
    seats = min(in_flight, most_sequences(config))
    if model.kv_bytes:
        seats = min(seats, max(room, 0.0) / (model.kv_bytes * context))
    seats = max(seats, 1.0)

    def step_s(rollouts: float) -> float:
        read = model.parameters * item + rollouts * context * model.kv_bytes
        multiplied = 2 * model.parameters * rollouts
        at_once = ENGINE_SHARE * cards
        return DECODE_S + read / (at_once * card.bandwidth) + multiplied / (at_once * card.peak)

    return seats / step_s(seats), seats, step_s(seats) / step_s(1.0)


def _length(lengths: Table) -> float:
    """Of the response that a token lies in, on average over tokens."""
    return float((lengths.rows**2).mean()) / lengths.mean


def _context(lengths: Table) -> float:
    """Tokens before a token, on average over tokens, that an engine reads again for it."""
    return PROMPT_TOKENS + _length(lengths) / 2


def _judge_s(config: RunConfig) -> float:
    """Mean over the sources, of each by its slowest verifier."""
    found = [source.verifiers or config.reward.verifiers for source in config.data.sources]
    slowest = [
        max(JUDGE_S.get(name, RULE_S) for name in verifiers)
        for verifiers in found or [config.reward.verifiers]
    ]
    return sum(slowest) / len(slowest)

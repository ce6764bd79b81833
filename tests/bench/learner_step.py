"""(b) Tokens per second of a learner step, beside a bare DeepSpeed loop and plain PyTorch.

    python -m tests.bench.learner_step [MODEL]

Bare DeepSpeed: the same ZeRO stage, the same packed micro-batches and the same log-probs, with
nothing around them (no metrics, no finiteness check, no schedule). Plain PyTorch pads all rollouts
to the longest and computes full logits. All in one process, in turn, the fastest of several.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from learner import trainer, zero_engine
from learner.models.policy import load_policy
from oapl import batching
from oapl.config import RunConfig
from oapl.records import Batch, Credit, CreditedGroup
from tests.bench import table
from tests.support.makers import make_group

GROUP_SIZE, PROMPT, RESPONSES = 8, 14, (8, 48)
BEHAVIOUR_LOGPROB = -4.6
SMALL = 5e6
"""Parameters of a model that does 64 rollouts a step here; a larger one does 8."""


def measure(model: Path, name: str) -> list[table.Row]:
    is_small = parameters(model) < SMALL
    num_groups, rounds = (8, 12) if is_small else (1, 4)
    groups = [_group(index) for index in range(num_groups)]
    tokens = sum(
        PROMPT + len(rollout.token_ids) for g in groups for rollout in g.scored.group.rollouts
    )
    config = RunConfig(
        model={"path": str(model), "dtype": "float32"},
        learner={"precision": "fp32", "micro_batch_tokens": 2048, "row_tokens": 1},
        objective={"name": "oapl", "beta2": 0.1},
        optimizer={"lr": 1e-6},
        sync={"transport": "local"},
        cluster={"mode": "local"},
    )
    batch = batching.make_batch(groups, step=0, micro_batch_tokens=2048, row_tokens=1)
    learner = trainer.build(config)
    steps: dict[str, Callable[[], object]] = {
        "ours": lambda: learner.update(batch),
        "bare": bare_step(config, batch),
        "plain": plain_step(model, groups),
    }
    seconds = fastest(steps, rounds)
    learner.close()
    rate = {kind: tokens / value for kind, value in seconds.items()}
    return [
        table.Row(
            what=f"(b) learner step over {what}",
            model=name,
            ours=rate["ours"],
            theirs=rate[kind],
            unit="tokens/s",
            ratio=rate["ours"] / rate[kind],
            bar=bar,
        )
        for kind, what, bar in (
            ("bare", "a bare DeepSpeed loop", 0.97),
            ("plain", "padded PyTorch with full logits", None),
        )
    ]


def fastest(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each, after one to warm up; called in turn.

    Who comes first changes from round to round: after the step that needs least memory the next one
    pays for the pages that were given back, up to 2 of 6 s.
    """
    best = dict.fromkeys(steps, float("inf"))
    for index in range(rounds + 1):
        ordered = [*steps.items()][:: 1 if index % 2 else -1]
        for kind, step in ordered:
            started = time.perf_counter()
            step()
            if index:
                best[kind] = min(best[kind], time.perf_counter() - started)
    return best


def bare_step(config: RunConfig, batch: Batch) -> Callable[[], object]:
    """`forward`, `backward`, `step` of DeepSpeed on tensors that lie ready."""
    import torch

    engine = zero_engine.ZeroEngine(config, load_policy(config), config.optimizer).inner
    parts = [
        (
            [torch.tensor(x) for x in (m.token_ids, m.positions, m.response_mask)],
            torch.tensor(m.inference_logprobs[m.response_mask]),
            torch.tensor(m.rollout_index[m.response_mask]),
            torch.tensor(m.credit),
        )
        for m in batch.micro_batches
    ]

    def step() -> None:
        for inputs, behaviour, index, credit in parts:
            logprobs, _ = engine(*inputs, temperature=1.0, with_entropy=False)
            ratio = torch.zeros(len(credit)).index_add(0, index, logprobs - behaviour)
            loss = (0.1 * ratio - credit).square().sum() / batch.global_rollouts
            engine.backward(loss, scale_wrt_gas=False)
        engine.step()

    return step


def plain_step(model: Path, groups: list[CreditedGroup]) -> Callable[[], object]:
    """Padded batch, full logits, torch's AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adam = torch.optim.AdamW(policy.parameters(), lr=1e-6)
    pairs = [(g, r) for g in groups for r in range(GROUP_SIZE)]
    sequences = [
        np.concatenate([g.scored.group.prompt.token_ids, g.scored.group.rollouts[r].token_ids])
        for g, r in pairs
    ]
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, PROMPT : len(sequence)] = 1
    attention = (torch.arange(width) < torch.tensor([len(s) for s in sequences])[:, None]).long()
    credit = torch.tensor([float(g.credit.values[r]) for g, r in pairs])

    def step() -> None:
        logits = policy(input_ids=ids, attention_mask=attention, use_cache=False).logits
        logprobs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        ratio = ((logprobs - BEHAVIOUR_LOGPROB) * mask[:, 1:]).sum(1)
        (0.1 * ratio - credit).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def _group(index: int) -> CreditedGroup:
    lengths = np.random.default_rng(index).integers(*RESPONSES, GROUP_SIZE)
    scored = make_group(lengths.tolist(), prompt_length=PROMPT, name=f"p{index}", seed=index)
    values = scored.rewards - scored.rewards.mean()
    return CreditedGroup(scored=scored, credit=Credit(values=values))


def parameters(model: Path) -> float:
    """How many, by the size of the file."""
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    dtype = json.loads((model / "config.json").read_text()).get("dtype", "float32")
    return size / (4 if dtype == "float32" else 2)


if __name__ == "__main__":
    table.main(measure)

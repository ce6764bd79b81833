"""Seconds of a learner step, beside a plain padded torch step over the same rollouts.

    python -m tests.bench.learner_step

The plain step pads all rollouts to the longest and computes full logits; ours packs, computes
log-probs without full logits, and the entropy besides. Best of several, in one process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from learner.trainer import build
from oapl import batching
from oapl.config import RunConfig
from oapl.records import Credit, CreditedGroup, Group, Prompt, Rollout, Sampling, ScoredGroup
from tests.makers import make_model

NUM_GROUPS, GROUP_SIZE, PROMPT, ROUNDS = 8, 8, 14, 8
LAYOUTS = ((128, 2048), (64, 1024), (1, 1024), (0, 1024))


def groups(rng: np.random.Generator) -> list[CreditedGroup]:
    return [_group(rng, index) for index in range(NUM_GROUPS)]


def _group(rng: np.random.Generator, index: int) -> CreditedGroup:
    prompt = Prompt(
        id=f"p{index}",
        text="",
        token_ids=rng.integers(3, 100, PROMPT).astype(np.int32),
        verifiers={},
        reference={},
        source="bench",
    )
    lengths = rng.integers(8, 48, GROUP_SIZE)
    rollouts = tuple(
        Rollout(
            token_ids=rng.integers(3, 100, size).astype(np.int32),
            inference_logprobs=np.full(size, -4.6, np.float32),
            finish_reason="stop",
            text="",
            first_version=0,
            last_version=0,
        )
        for size in lengths
    )
    rewards = rng.integers(0, 2, GROUP_SIZE).astype(np.float32)
    group = Group(prompt=prompt, rollouts=rollouts, version=0, sampling=Sampling())
    scored = ScoredGroup(group=group, rewards=rewards, verdicts=({},) * GROUP_SIZE)
    return CreditedGroup(scored=scored, credit=Credit(values=rewards - rewards.mean()))


def best(step: Callable[[], object]) -> float:
    """Seconds of the fastest of `ROUNDS` calls, after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def plain_step(path: Path, data: list[CreditedGroup]) -> Callable[[], object]:
    """Padded batch, full logits, torch's AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4)
    pairs = [(g, r) for g in data for r in range(GROUP_SIZE)]
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
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
        logprobs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        ratio = ((logprobs + 4.6) * mask[:, 1:]).sum(1)
        (0.1 * ratio - credit).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make_model(Path(folder) / "model")
        data = groups(np.random.default_rng(0))
        config = RunConfig(
            model={"path": str(path), "dtype": "float32"},
            learner={"precision": "fp32"},
            objective={"name": "oapl", "beta2": 0.1},
            optimizer={"lr": 1e-4},
            sync={"transport": "local"},
            cluster={"mode": "local"},
        )
        trainer = build(config)
        plain = best(plain_step(path, data))
        print(f"plain padded torch, full logits: {plain:.3f} s")
        for row, micro in LAYOUTS:

            def ours(row: int = row, micro: int = micro) -> object:
                batch = batching.make_batch(data, step=0, micro_batch_tokens=micro, row_tokens=row)
                return trainer.update(batch)

            seconds = best(ours)
            print(
                f"row_tokens={row:<4} micro_batch_tokens={micro:<5} {seconds:.3f} s, "
                f"{seconds / plain:.2f} of plain"
            )
        trainer.close()


if __name__ == "__main__":
    main()

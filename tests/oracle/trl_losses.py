"""TRL's `GRPOTrainer._compute_loss` on given log-probs; run by `python -m tests.oracle`.

Its model is replaced by the log-probs themselves, so that what is recorded is the loss and its
gradient with respect to them. Importance ratios go in as TRL makes them of its options
`vllm_importance_sampling_mode` and `vllm_importance_sampling_cap`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

RECORD = Path(__file__).with_name("trl_losses.json")
LENGTHS = (7, 3, 5, 1, 6, 4)
CAP, BOUNDS = 1.3, (0.8, 1.25)
PLAIN: dict[str, Any] = {
    "loss_type": "grpo",
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "delta": None,
    "importance": None,
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GRPO": ({}, {}),
    "dual clip": (
        {"epsilon_low": 0.2, "epsilon_high": 0.28, "delta": 1.4},
        {"eps_high": 0.28, "dual_clip": 1.4},
    ),
    "DAPO": (
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"eps_high": 0.28, "aggregation": "token"},
    ),
    "Dr. GRPO": (
        {"loss_type": "dr_grpo"},
        {"aggregation": "constant", "constant_tokens": max(LENGTHS)},
    ),
    "GSPO": (
        {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.08},
        {"policy_ratio": "sequence", "eps_low": 0.05, "eps_high": 0.08},
    ),
    # TRL's bound of CISPO is the largest ratio itself, ours what it may exceed 1 by; TRL has no
    # lower bound, which is ours at 1 - 1 = 0.
    "CISPO": (
        {"loss_type": "cispo", "epsilon_high": 1.3},
        {"clip": "weights", "eps_low": 1.0, "eps_high": 0.3, "aggregation": "token"},
    ),
    "GRPO + truncated IS": (
        {"importance": "token_truncate"},
        {"importance": "token", "importance_cap": CAP},
    ),
    "GRPO + masked IS": (
        {"importance": "token_mask"},
        {"importance": "token", "importance_bounds": BOUNDS},
    ),
    "GRPO + sequence IS": (
        {"importance": "sequence_truncate"},
        {"importance": "sequence", "importance_cap": CAP},
    ),
}


def main() -> None:
    import trl
    from trl import GRPOTrainer

    given = _given()
    cases = []
    for name, (changes, ours) in CASES.items():
        settings = PLAIN | changes
        loss, gradient = _loss(GRPOTrainer, settings, given)
        cases.append(
            {"name": name, "trl": settings, "ours": ours, "loss": loss, "gradient": gradient}
        )
    record = {
        "trl": trl.__version__,
        "lengths": LENGTHS,
        "given": {key: value.tolist() for key, value in given.items()},
        "cases": cases,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{len(cases)} cases of TRL {trl.__version__} in {RECORD}")


def _given() -> dict[str, torch.Tensor]:
    """Log-probs [B, T] of policy, proximal policy and sampler; advantages [B]; the mask [B, T]."""
    chance = torch.Generator().manual_seed(0)
    shape = len(LENGTHS), max(LENGTHS)

    def drawn(scale: float) -> torch.Tensor:
        return scale * torch.randn(shape, generator=chance)

    policy = -1.5 + drawn(0.4)
    proximal = policy + drawn(0.25)
    mask = torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]
    return {
        "policy": policy,
        "proximal": proximal,
        "sampler": proximal + drawn(0.15),
        "advantages": torch.randn(len(LENGTHS), generator=chance),
        "mask": mask.float(),
    }


def _loss(
    trainer: Any, settings: dict[str, Any], given: dict[str, torch.Tensor]
) -> tuple[float, list[list[float]]]:
    policy, mask = given["policy"].clone().requires_grad_(), given["mask"]
    same = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
    )
    mine = SimpleNamespace(
        loss_type=settings["loss_type"],
        importance_sampling_level=settings["importance_sampling_level"],
        epsilon_low=settings["epsilon_low"],
        epsilon_high=settings["epsilon_high"],
        args=SimpleNamespace(delta=settings["delta"], steps_per_generation=1),
        beta=0.0,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=settings["importance"] is not None,
        vllm_importance_sampling_correction=True,
        max_completion_length=max(LENGTHS),
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        model=SimpleNamespace(training=True),
        accelerator=same,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *args, **kw: (policy, mask * 0.0, None),
    )
    tokens = mask.long()
    inputs = {
        "prompt_ids": tokens[:, :1],
        "prompt_mask": tokens[:, :1],
        "completion_ids": tokens,
        "completion_mask": mask,
        "advantages": given["advantages"],
        "old_per_token_logps": given["proximal"],
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": _ratio(settings["importance"], given),
    }
    loss = trainer._compute_loss(mine, None, inputs)
    loss.backward()
    return loss.item(), policy.grad.tolist()


def _ratio(mode: str | None, given: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """As in TRL's `_generate_and_score_completions`: the sum over a sequence, or each token."""
    if mode is None:
        return None
    difference = (given["proximal"] - given["sampler"]) * given["mask"]
    if mode.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    if mode.endswith("truncate"):
        return ratio.clamp(max=CAP)
    return ratio.masked_fill((ratio < BOUNDS[0]) | (ratio > BOUNDS[1]), 0.0)


if __name__ == "__main__":
    main()

"""What a board shows of a run, whoever draws it: W&B, or Grafana over Ray's gauges.

Invariant: each metric is one of the table in `names`; a part in braces stands for all there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["", "share", "s", "bytes"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: lines over learner steps.

    Attributes:
        title: What it shows, in words.
        metrics: Its lines.
        unit: Of all of them; empty for bare numbers.
    """

    title: str
    metrics: tuple[str, ...]
    unit: Unit = ""


BOARD: dict[str, tuple[Panel, ...]] = {
    "Learning": (
        Panel("Reward", ("reward/mean", "reward/trained_mean")),
        Panel("Evaluation, mean@n", ("eval/{SET}/mean@n",)),
        Panel("Loss", ("loss/total",)),
        Panel("Entropy", ("policy/entropy",)),
        Panel("KL to what sampled", ("policy/policy_kl",)),
        Panel("Gradient norm", ("policy/grad_norm",)),
    ),
    "OAPL": (
        Panel("V*", ("oapl/v_star_mean",)),
        Panel("Advantage", ("oapl/advantage_mean", "oapl/advantage_min", "oapl/advantage_max")),
        Panel("Residual", ("oapl/residual_mean", "oapl/residual_std")),
        Panel("Importance ratio by tenth of a response", ("policy/ratio_at/{BIN}",)),
    ),
    "Rollouts": (
        Panel("Response length", ("rollout/length_mean", "rollout/length_max")),
        Panel(
            "Cut off, repeated, going round in circles",
            ("rollout/truncated_rate", "rollout/repetition_rate", "rollout/loop_rate"),
            "share",
        ),
        Panel(
            "Groups that are all right, or all wrong",
            ("reward/uniform_right_groups", "reward/uniform_wrong_groups"),
            "share",
        ),
        Panel("Rollouts so far", ("total/rollouts", "total/weighted_rollouts")),
    ),
    "Replay and lag": (
        Panel("Groups", ("replay/size", "replay/in_flight", "replay/queued")),
        Panel("Lag", ("replay/lag_mean", "replay/lag_max")),
        Panel(
            "Tokens thrown away",
            ("replay/cleared_tokens", "replay/wasted_tokens", "replay/refused_tokens"),
        ),
    ),
    "Throughput and idle": (
        Panel("Tokens per second", ("rollout/tokens_per_s", "perf/tokens_per_s")),
        Panel("Idle", ("idle/learner", "idle/engines"), "share"),
        Panel("Where the learner's time went", ("seconds/learner/{STATE}",), "s"),
        Panel("Where the engines' time went", ("seconds/engines/{STATE}",), "s"),
        Panel("Effective training time, MFU", ("total/ettr", "perf/mfu"), "share"),
    ),
    "Rewards": (
        Panel("Reward by verifier", ("reward/{VERIFIER}/mean",)),
        Panel("Latency, 95th percentile", ("reward/{VERIFIER}/latency_p95_s",), "s"),
        Panel("Waiting", ("reward/{VERIFIER}/queue_length",)),
        Panel(
            "Beyond the deadline, or failed",
            ("reward/{VERIFIER}/timeout_rate", "reward/{VERIFIER}/error_rate"),
            "share",
        ),
    ),
    "Health": (
        Panel("Alarms", ("alarms/{NAME}",)),
        Panel("Faults", ("faults/{KIND}",)),
        Panel("Engine and learner agree: 1", ("weights/probe",)),
        Panel("Memory of a learner rank", ("perf/peak_memory_bytes",), "bytes"),
    ),
}
"""The panels by section."""

"""Where along a response the policy drifts from what sampled, by hand and by a slow reading."""

from __future__ import annotations

import math

import pytest
import torch

from oapl.estimators import relative_bins
from oapl.objectives.base import NUM_BINS, build, policy_metrics
from oapl.records import Means
from tests.support.losses import inputs

BEHIND = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])


def test_the_part_of_a_response_is_that_of_its_own_length():
    # five tokens in tenths: 0, 2, 4, 6, 8; three: 0, 3, 6
    assert relative_bins(BEHIND, 2, 10).tolist() == [0, 2, 4, 6, 8, 0, 3, 6]
    assert relative_bins(torch.tensor([0] * 20), 1, 10).tolist() == [i // 2 for i in range(20)]


def test_rollouts_may_stand_in_any_order_and_one_may_be_missing():
    owner = torch.tensor([3, 3, 0, 2, 2, 2, 2])
    assert relative_bins(owner, 4, 2).tolist() == [0, 1, 0, 0, 0, 1, 1]


def by_bin(metrics) -> dict[int, float]:
    """The means that are reported: of a bin without tokens there is none."""
    part = metrics["policy/ratio_at"]
    assert isinstance(part, Means)
    assert part.names == tuple(f"policy/ratio_at/{bin}" for bin in range(NUM_BINS))
    pairs = zip(part.totals.tolist(), part.counts.tolist(), strict=True)
    return {bin: total / count for bin, (total, count) in enumerate(pairs) if count}


def test_the_ratio_by_position_is_the_mean_over_the_tokens_there():
    # ratios 1.1 at the beginnings, and e^-1, e^2 at the ends of two rollouts of two tokens
    logprobs = torch.tensor([math.log(1.1), -1.0, math.log(1.1), 2.0])
    metrics = policy_metrics(inputs(logprobs, [0.0] * 4, [0, 0, 1, 1], [1.0, 0.0]))
    assert by_bin(metrics) == pytest.approx({0: 1.1, 5: (math.exp(-1) + math.exp(2)) / 2})


def test_parts_of_a_batch_add_up_to_the_whole_and_agree_with_a_slow_reading():
    chance = torch.Generator().manual_seed(0)
    lengths = [1, 7, 10, 33, 64, 2]
    owner = [i for i, length in enumerate(lengths) for _ in range(length)]
    logprobs = torch.randn(len(owner), generator=chance)
    inference = torch.randn(len(owner), generator=chance).tolist()
    inference[3] = inference[40] = math.nan  # nobody recorded these
    expected: dict[int, list[float]] = {}
    at = 0
    for length in lengths:
        for place in range(length):
            difference = float(logprobs[at]) - inference[at]
            if not math.isnan(difference):
                expected.setdefault(10 * place // length, []).append(math.exp(difference))
            at += 1
    whole = policy_metrics(inputs(logprobs, inference, owner, [0.0] * len(lengths)))
    assert by_bin(whole) == pytest.approx({b: sum(v) / len(v) for b, v in expected.items()})
    cut = sum(lengths[:3])
    parts = [
        policy_metrics(inputs(logprobs[:cut], inference[:cut], owner[:cut], [0.0] * 3)),
        policy_metrics(
            inputs(logprobs[cut:], inference[cut:], [i - 3 for i in owner[cut:]], [0.0] * 3)
        ),
    ]
    totals = sum(part["policy/ratio_at"].totals for part in parts)
    counts = sum(part["policy/ratio_at"].counts for part in parts)
    assert (totals / counts).tolist() == pytest.approx(list(by_bin(whole).values()))


def test_alignment_is_told_per_rollout_too_and_not_of_one_without_log_probs():
    logprobs = torch.tensor([0.1, -0.2, 0.3, 0.0, 5.0])
    recorded = [0.0, 0.0, 0.0, math.nan, math.nan]
    metrics = policy_metrics(inputs(logprobs, recorded, [0, 0, 1, 1, 2], [1.0, 0.0, 0.0]))
    expected = [(math.exp(0.1) + math.exp(0.2)) / 2, math.exp(0.3)]
    assert metrics["policy/rollout_prob_ratio_*"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["grpo", "ppo", "remix"])
def test_the_policys_term_of_the_loss_is_told_without_kl_and_entropy(name):
    options = {"name": name, "entropy_coefficient": 0.1, "kl_coefficient": 0.2}
    if name != "grpo":
        options["whiten"] = False
    plain = {**options, "entropy_coefficient": 0.0, "kl_coefficient": 0.0}
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    more = {
        "entropy": torch.tensor([0.3, 0.2, 0.1]),
        "reference": torch.tensor([-1.5, -2.5, -0.1]),
        "previous": torch.tensor([-1.1, -2.2, -0.3]),
        "token_credit": None,
    }
    given = inputs(logprobs, [-1.2, -2.1, -0.4], [0, 0, 1], [1.0, -0.5], **with_credit(name, more))
    outputs, alone = build(options).loss(given), build(plain).loss(given)
    assert outputs.terms["policy"].item() == pytest.approx(alone.loss.item())
    assert outputs.loss.item() != pytest.approx(alone.loss.item())
    assert not outputs.terms["policy"].requires_grad


def with_credit(name, more):
    from oapl.records import TokenCredit

    if name == "grpo":
        return {key: value for key, value in more.items() if key != "token_credit"}
    return {**more, "token_credit": TokenCredit(advantage=torch.tensor([1.0, 0.5, -0.5]))}

"""The GRPO loss and credit: by hand, by finite differences, and special cases by neighbours."""

import math

import numpy as np
import pytest
import torch

from oapl.errors import InputError
from oapl.objectives.base import build
from oapl.records import LossInputs
from tests.support.losses import inputs, slopes
from tests.support.makers import make_group

OWNER = [0, 0, 0, 1, 2, 2, 2, 2, 2]
CREDIT = [0.7, -1.1, 0.4]
CHANCE = np.random.default_rng(0)
POINT = torch.tensor(CHANCE.normal(-2, 0.4, 9))
PROXIMAL = torch.tensor(CHANCE.normal(-2, 0.4, 9))
REFERENCE = torch.tensor(CHANCE.normal(-2, 0.4, 9))
SAMPLER = torch.tensor(CHANCE.normal(-2, 0.4, 9))
INFERENCE = SAMPLER.tolist()


def objective(**options):
    return build({"name": "grpo", **options})


def given(logprobs: torch.Tensor, **more) -> LossInputs:
    policies = {"proximal": PROXIMAL, "reference": REFERENCE}
    return inputs(logprobs, INFERENCE, OWNER, CREDIT, **{**policies, **more})


def loss_and_gradient(made: LossInputs | None = None, **options):
    point = POINT.clone().requires_grad_()
    loss = objective(**options).loss(made(point) if callable(made) else given(point)).loss
    loss.backward()
    return loss.item(), point.grad.tolist()


def same(one, other) -> bool:
    return one[0] == pytest.approx(other[0], rel=1e-9) and one[1] == pytest.approx(
        other[1], rel=1e-9, abs=1e-12
    )


def test_three_tokens_by_hand():
    # Rollout 0, A = 1: tokens of ratio e^0.1 = 1.105 (counts) and e^0.5 = 1.649 (cut at 1.2).
    # Rollout 1, A = -2: one token of ratio e^-0.5 = 0.607, which counts as 0.8.
    # Loss: -((1.105 + 1.2) / 2 - 2 * 0.8) / 2; slopes: only of the first: -1.105 / 2 / 2.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    proximal = torch.tensor([-1.1, -2.5, 0.0], dtype=torch.float64)
    made = inputs(logprobs, [-9.0] * 3, [0, 0, 1], [1.0, -2.0], proximal=proximal)
    outputs = objective().loss(made)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-((math.exp(0.1) + 1.2) / 2 - 1.6) / 2)
    assert logprobs.grad.tolist() == pytest.approx([-math.exp(0.1) / 4, 0.0, 0.0])
    assert outputs.metrics["grpo/clipped_rate"].tolist() == [0.0, 1.0, 1.0]


def test_importance_stands_outside_the_minimum_and_not_on_the_entropy():
    logprobs = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    proximal = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    entropy = torch.tensor([0.3, 0.7], dtype=torch.float64)
    made = inputs(logprobs, [-1.5, -1.5], [0, 1], [1.0, -2.0], proximal=proximal, entropy=entropy)
    outputs = objective(importance="token", entropy_coefficient=0.1).loss(made)
    outputs.loss.backward()
    weights = [math.exp(0.5), math.exp(-0.5)]
    assert outputs.loss.item() == pytest.approx((-weights[0] + 2 * weights[1] - 0.1) / 2)
    assert logprobs.grad.tolist() == pytest.approx([-weights[0] / 2, weights[1]])
    assert outputs.metrics["grpo/importance_ess"].tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ratio_to": "inference"},
        {"policy_ratio": "sequence"},
        {"policy_ratio": "sequence", "eps_low": 0.01, "eps_high": 0.01},
        {"clip": "weights", "eps_low": 1.0},
        {"clip": "none", "scale": "batch", "aggregation": "token"},
        {"dual_clip": 1.5, "eps_low": 0.0},
        {"importance": "token", "importance_cap": 1.2},
        {"importance": "sequence", "importance_bounds": (0.5, 2.0), "outside": "rollout"},
        {"importance": "token", "importance_bounds": (0.8, 1.2), "masked": "leave"},
        {"aggregation": "constant", "constant_tokens": 7},
        *({"kl_coefficient": 0.3, "kl_estimator": kind} for kind in ("k1", "k2", "k3")),
    ],
)
def test_gradient_agrees_with_finite_differences(options):
    ratios = (POINT - PROXIMAL).exp()

    def loss(logprobs: torch.Tensor) -> torch.Tensor:
        if options.get("clip") != "weights":
            return objective(**options).loss(given(logprobs)).loss
        weight = ratios.clamp(0, 1.2)  # the bounded ratio is a constant of this gradient
        terms = weight * torch.tensor(CREDIT)[OWNER] * logprobs
        return -sum(terms[[i for i, o in enumerate(OWNER) if o == b]].mean() for b in range(3)) / 3

    _, gradient = loss_and_gradient(**options)
    assert gradient == pytest.approx(slopes(loss, POINT), rel=1e-5, abs=1e-8)


def test_at_ratio_one_without_clip_it_is_reinforce():
    made = lambda point: given(point, proximal=point.detach())  # noqa: E731
    _, gradient = loss_and_gradient(
        made, clip="none", baseline="none", scale="none", aggregation="constant", constant_tokens=1
    )
    assert gradient == pytest.approx([-CREDIT[o] / 3 for o in OWNER])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"eps_low": 1.0, "eps_high": 1e9}, {"clip": "none"}),
        ({"dual_clip": 1e9}, {}),
        ({"importance": "token", "importance_cap": 1e9}, {"importance": "token"}),
        ({"importance": "token", "importance_bounds": (0.0, 1e9)}, {"importance": "token"}),
        (
            {"importance": "token", "importance_bounds": (0.0, 1e9), "masked": "leave"},
            {"importance": "token"},
        ),
        ({"overlong": "mask"}, {}),
        ({"kl_coefficient": 1e-30}, {}),
    ],
)
def test_a_switch_at_its_limit_is_its_simpler_neighbour(one, other):
    assert same(loss_and_gradient(**one), loss_and_gradient(**other))


def test_the_batchs_spread_divides_the_advantages():
    loss, gradient = loss_and_gradient(scale="none")
    made = lambda point: given(point, global_credit_std=4.0)  # noqa: E731
    divided, slope = loss_and_gradient(made, scale="batch")
    assert divided == pytest.approx(loss / 4, rel=1e-6)
    assert slope == pytest.approx([one / 4 for one in gradient], rel=1e-6)


def test_equal_policies_need_no_importance_weight():
    equal = lambda point: given(point, proximal=SAMPLER)  # noqa: E731
    plain = loss_and_gradient(equal)
    for kind in ("token", "sequence"):
        assert same(loss_and_gradient(equal, importance=kind), plain)
    assert same(loss_and_gradient(equal, ratio_to="inference"), plain)


def test_responses_of_one_token_make_the_aggregations_and_ratios_equal():
    def made(point):
        return inputs(
            point, INFERENCE, list(range(9)), CREDIT * 3, proximal=PROXIMAL, global_tokens=9
        )

    plain = loss_and_gradient(made)
    assert same(loss_and_gradient(made, aggregation="token"), plain)
    assert same(loss_and_gradient(made, aggregation="constant", constant_tokens=1), plain)
    assert same(loss_and_gradient(made, policy_ratio="sequence"), plain)
    weighted = loss_and_gradient(made, importance="token")
    assert same(loss_and_gradient(made, importance="sequence"), weighted)


def test_micro_batches_add_up_to_the_whole_batch():
    whole = objective().loss(given(POINT)).loss
    parts = []
    for rows, owner, credit in (
        (slice(0, 4), [0, 0, 0, 1], CREDIT[:2]),
        (slice(4, 9), [0] * 5, CREDIT[2:]),
    ):
        parts.append(
            inputs(
                POINT[rows], INFERENCE[rows], owner, credit,
                proximal=PROXIMAL[rows], global_rollouts=3, global_tokens=9,
            )
        )  # fmt: skip
    assert sum(objective().loss(part).loss for part in parts).item() == pytest.approx(whole.item())


@pytest.mark.parametrize(
    ("masked", "expected"),
    [("keep", -(1.0 * 1 / 2 + 3.0) / 2), ("leave", -(1.0 * 1 / 1 + 3.0) / 2)],
)
def test_a_token_taken_out_stays_in_the_denominators_or_leaves_them(masked, expected):
    # Ratios 1; w of the second token is e^2, beyond the bound.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64)
    made = inputs(logprobs, [-1.0, -4.0, -0.5], [0, 0, 1], [1.0, 3.0])
    options = {"importance": "token", "importance_bounds": (0.5, 2.0), "masked": masked}
    assert objective(**options).keeps(made).tolist() == [True, False, True]
    outputs = objective(**options).loss(made)
    assert outputs.loss.item() == pytest.approx(expected)
    assert outputs.metrics["grpo/masked_rate"].tolist() == [0.0, 1.0, 0.0]


def test_outside_can_take_out_the_whole_rollout():
    made = inputs(torch.tensor([-1.0, -2.0, -0.5]), [-1.0, -4.0, -0.5], [0, 0, 1], [1.0, 3.0])
    options = {"importance": "token", "importance_bounds": (0.5, 2.0), "outside": "rollout"}
    assert objective(**options).keeps(made).tolist() == [False, False, True]


def test_a_rollout_that_was_cut_off_is_taken_out():
    cut = torch.tensor([False, True, False])
    assert objective(overlong="mask").keeps(given(POINT, is_truncated=cut)).tolist() == [
        *[True] * 3, False, *[True] * 5,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1.5, -0.5, -0.5, -0.5]),
        ({"scale": "none"}, [0.75, -0.25, -0.25, -0.25]),
        ({"scale": "none", "baseline": "leave_one_out"}, [1.0, -1 / 3, -1 / 3, -1 / 3]),
        ({"scale": "none", "baseline": "none"}, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_credit_by_hand(options, expected):
    credit = objective(**options).credit(make_group([1] * 4, rewards=[1.0, 0.0, 0.0, 0.0]))
    assert credit.values.tolist() == pytest.approx(expected, abs=1e-5)
    assert credit.dropped is None


def test_a_group_of_equal_rewards_has_credit_zero_or_is_dropped():
    group = make_group([1, 2], rewards=[0.3, 0.3])
    assert objective().credit(group).values.tolist() == [0.0, 0.0]
    assert objective(uniform="drop").credit(group).dropped == "uniform"
    assert objective(uniform="drop").credit(make_group([1, 2])).dropped is None


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"entropy", "proximal"}),
        ({"ratio_to": "inference"}, {"entropy"}),
        ({"entropy_coefficient": 0.1}, {"entropy", "entropy_gradient", "proximal"}),
        ({"overlong": "mask", "masked": "leave"}, {"entropy", "proximal", "kept_counts"}),
        ({"kl_coefficient": 1e-4}, {"entropy", "proximal", "reference"}),
        (
            {"importance": "token", "importance_bounds": (0.5, 2.0), "masked": "leave"},
            {"entropy", "proximal", "kept_counts", "prepared"},
        ),
    ],
)
def test_it_asks_for_what_its_options_need_and_no_more(options, needs):
    assert objective(**options).declares.needs == needs


def test_the_kl_is_of_the_policy_from_the_reference():
    logprobs = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    made = inputs(
        logprobs, [-1.0, -2.0], [0, 1], [0.0, 0.0],
        reference=torch.tensor([-1.5, -1.5], dtype=torch.float64),
    )  # fmt: skip
    expected = {"k1": 0.0, "k2": 0.125, "k3": (math.exp(-0.5) + 0.5 + math.exp(0.5) - 0.5) / 2 - 1}
    for kind, value in expected.items():
        outputs = objective(kl_coefficient=0.1, kl_estimator=kind).loss(made)
        assert outputs.loss.item() == pytest.approx(0.1 * value)
        assert outputs.metrics["policy/reference_kl"].mean().item() == pytest.approx(expected["k3"])


def test_adaptive_entropy_is_on_below_its_target_and_resumes_so():
    entropy = torch.full((9,), 0.5, dtype=torch.float64)
    made = given(POINT, entropy=entropy)
    adaptive = objective(entropy_coefficient=0.1, entropy_target=0.4)
    plain = objective().loss(made).loss.item()
    assert adaptive.loss(made).loss.item() == pytest.approx(plain), "unknown before the first step"
    adaptive.observe({"policy/entropy": 0.3})
    assert adaptive.loss(made).loss.item() == pytest.approx(plain - 0.1 * 0.5)
    again = objective(entropy_coefficient=0.1, entropy_target=0.4)
    again.restore(adaptive.state())
    assert again.loss(made).loss.item() == adaptive.loss(made).loss.item()
    adaptive.observe({"policy/entropy": 0.4})
    assert adaptive.loss(made).loss.item() == pytest.approx(plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dual_clip": 0.5}, "dual_clip = 0.5: must be above 1"),
        ({"dual_clip": 2.0, "clip": "none"}, "bounds the minimum"),
        ({"importance_cap": 2.0}, "there is no weight"),
        ({"importance": "token", "ratio_to": "inference"}, "a ratio to what sampled has it"),
        ({"importance": "token", "importance_bounds": (2.0, 1.0)}, "the least is above"),
        ({"aggregation": "constant"}, "constant_tokens = 0"),
        ({"constant_tokens": 5}, "constant_tokens = 5"),
        ({"baseline": "none", "uniform": "drop"}, "without a baseline"),
        ({"entropy_target": 0.3}, "set entropy_coefficient"),
        ({"eps_low": 1.5}, "objective.eps_low = 1.5"),
        ({"outside": "rollout"}, "nothing is outside without importance_bounds"),
        ({"masked": "leave"}, "nothing is taken out without importance_bounds or"),
        ({"kl_estimator": "k1"}, "set kl_coefficient"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        objective(**options)


def test_tokens_without_recorded_logprobs_are_left_out_of_what_is_measured_from_them():
    unknown = torch.tensor([math.nan, math.nan, *INFERENCE[2:]], dtype=POINT.dtype)
    whole, partly = given(POINT), given(POINT, inference_logprobs=unknown)
    all_known, some_known = (objective().loss(made) for made in (whole, partly))
    assert some_known.loss == all_known.loss
    name = "policy/prob_ratio"
    assert some_known.metrics[name].tolist() == all_known.metrics[name][2:].tolist()
    none = given(POINT, inference_logprobs=torch.full_like(POINT, math.nan))
    measured = objective().loss(none).metrics
    assert [len(measured[f"policy/{key}"]) for key in ("policy_kl", "prob_ratio")] == [0, 0]

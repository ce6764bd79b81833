"""Evaluation measures against cases worked by hand and against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from oapl.evaluation import (
    Problem,
    Protocol,
    averages,
    by_length,
    edges_to,
    extract_answer,
    majority,
    mean_and_error,
    pass_at_k,
    score_of,
    summarise,
)
from oapl.evaluation.measures.base import MEASURES
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout, Sampling, Verdict


def rollout(text: str = "", length: int = 1, finish_reason: str = "stop") -> Rollout:
    return Rollout(
        token_ids=np.zeros(length, np.int32),
        inference_logprobs=np.zeros(length, np.float32),
        finish_reason=finish_reason,  # type: ignore[arg-type]
        text=text,
        first_version=0,
        last_version=0,
    )


def judged(reward: float, failure: str | None = None) -> Judgement:
    return Judgement(reward=reward, verdicts={}, failure=failure)


def answers(
    rewards: Sequence[float],
    texts: Sequence[str] | None = None,
    greedy: float | None = None,
    lengths: Sequence[int] | None = None,
) -> EvalAnswers:
    texts = texts or [str(reward) for reward in rewards]
    lengths = lengths or [1] * len(rewards)
    ids = np.array([1], np.int32)
    return EvalAnswers(
        prompt=Prompt(id="p", text="", token_ids=ids, verifiers={}, reference={}, source="s"),
        rollouts=tuple(rollout(t, n) for t, n in zip(texts, lengths, strict=True)),
        judgements=tuple(judged(reward) for reward in rewards),
        greedy=None if greedy is None else rollout(),
        greedy_judgement=None if greedy is None else judged(greedy),
    )


def summed(
    name: str, of: Sequence[EvalAnswers], ks: Sequence[int] = (), threshold: float = 1.0, **said
):
    n = max((len(answer.rollouts) for answer in of), default=0)
    protocol = Protocol(num_samples=n, ks=tuple(ks), threshold=threshold, **said)
    return summarise(name, of, protocol)


def test_pass_at_k_equals_enumeration_over_all_draws_of_k():
    for n in range(1, 8):
        for c in range(n + 1):
            outcomes = [True] * c + [False] * (n - c)
            for k in range(1, n + 1):
                draws = list(itertools.combinations(outcomes, k))
                exact = sum(any(draw) for draw in draws) / len(draws)
                assert pass_at_k(n, c, k) == pytest.approx(exact, abs=1e-12), (n, c, k)


def test_pass_at_k_is_exact_at_its_ends():
    assert pass_at_k(10, 0, 10) == 0.0
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(1, 1, 1) == 1.0
    assert pass_at_k(8, 3, 1) == pytest.approx(3 / 8, abs=1e-15)


def test_pass_at_k_is_stable_for_many_samples():
    exact = 1 - math.comb(9_990, 256) / math.comb(10_000, 256)
    assert pass_at_k(10_000, 10, 256) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_what_cannot_be_estimated(n: int, c: int, k: int):
    with pytest.raises(ValueError, match=r"samples"):
        pass_at_k(n, c, k)


def test_majority_takes_the_earliest_of_equals_and_lets_empty_votes_abstain():
    assert majority(["a", "b", "b", "a"]) == "a"
    assert majority(["", "", "", "b"]) == "b"
    assert majority(["", ""]) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1} no, \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"cut off \boxed{12", "12"),
        ("<answer>3</answer> <answer> 4\n5 </answer>", "4 5"),
        ("thinking\n\n the answer is 7 \n", "the answer is 7"),
        ("  \n", ""),
    ],
)
def test_answers_are_read_from_box_tag_or_last_line(text: str, answer: str):
    assert extract_answer(text) == answer


def test_mean_and_its_error_by_hand():
    # 0, 0.5, 1: mean 0.5, variance (0.25 + 0 + 0.25) / 2 = 0.25, error 0.5 / sqrt(3).
    assert mean_and_error([0.0, 0.5, 1.0]) == pytest.approx((0.5, 0.5 / math.sqrt(3)))
    assert math.isnan(mean_and_error([1.0])[1])


def test_summary_by_hand():
    # Problem 1: rewards 1 0 0 0, votes a b b c: mean 1/4, pass@2 = 1 - C(3,2)/C(4,2) = 1/2, b wins.
    # Problem 2: rewards 1 1 0 1, votes a a b a: mean 3/4, pass@2 = 1 (one wrong only), a wins.
    first = answers([1, 0, 0, 0], ["a", "b", "b", "c"], greedy=0.0, lengths=[1, 2, 3, 4])
    second = answers([1, 1, 0, 1], ["a", "a", "b", "a"], greedy=1.0, lengths=[5, 5, 5, 7])
    metrics = summed("toy", [first, second], ks=(1, 2, 4, 8), threshold=1.0)
    assert metrics == pytest.approx(
        {
            "eval/toy/mean@4": 0.5,
            "eval/toy/mean@4_se": math.sqrt(0.125) / math.sqrt(2),
            "eval/toy/maj@4": 0.5,
            "eval/toy/maj@4_se": 0.5,
            "eval/toy/pass@1": 0.5,
            "eval/toy/pass@1_se": math.sqrt(0.125) / math.sqrt(2),
            "eval/toy/pass@2": 0.75,
            "eval/toy/pass@2_se": 0.25,
            "eval/toy/pass@4": 1.0,
            "eval/toy/pass@4_se": 0.0,
            "eval/toy/greedy": 0.5,
            "eval/toy/greedy_se": 0.5,
            "eval/toy/length_mean": 4.0,
            "eval/toy/length_p10": 1.0,
            "eval/toy/length_p50": 4.0,
            "eval/toy/length_p90": 7.0,
            "eval/toy/length_p99": 7.0,
            "eval/toy/halved_right": 0.5,
            "eval/toy/halved_right_se": 0.25,
            "eval/toy/halved_loss": 0.0,
            "eval/toy/think_rate": 0.0,
            "eval/toy/think_rate_se": 0.0,
            "eval/toy/repetition_rate": 2.25 / 8,  # of 5, 5, 5 and 7 equal tokens
            "eval/toy/truncated_rate": 0.0,
            "eval/toy/malformed_rate": 0.0,
            "eval/toy/entropy": 0.0,
        }
    )


def test_entropy_is_the_mean_over_tokens_of_what_the_engine_recorded():
    # Tokens of ln p -1 | -3, -5: (1 + 3 + 5) / 3 tokens, whoever of the two they belong to.
    def of(*logprobs: float) -> EvalAnswers:
        found = answers([1.0], lengths=[len(logprobs)])
        recorded = np.array(logprobs, np.float32)
        (only,) = found.rollouts
        return replace(found, rollouts=(replace(only, inference_logprobs=recorded),))

    metrics = summed("s", [of(-1), of(-3, -5)], ks=(), threshold=1.0)
    assert metrics["eval/s/entropy"] == pytest.approx(3.0)
    (only,) = of(-1).rollouts
    unknown = replace(of(-1), rollouts=(replace(only, inference_logprobs=None),))
    assert "eval/s/entropy" not in summed("s", [of(-1), unknown], ks=(), threshold=1.0)


def test_the_error_is_clustered_by_problem():
    # Samples of a problem all agree: 200 samples tell no more than the 2 problems they come from.
    few = summed("s", [answers([1]), answers([0])], ks=(), threshold=1.0)
    many = summed("s", [answers([1] * 100), answers([0] * 100)], ks=(), threshold=1.0)
    assert few["eval/s/mean@1_se"] == many["eval/s/mean@100_se"] == 0.5


def test_mean_is_of_rewards_and_pass_of_the_threshold():
    metrics = summed("s", [answers([0.5, 0.25])], ks=(1,), threshold=0.5)
    assert metrics["eval/s/mean@2"] == pytest.approx(0.375)
    assert metrics["eval/s/pass@1"] == pytest.approx(0.5)
    assert "eval/s/mean@2_se" not in metrics  # one problem has no error


def test_a_sample_that_nobody_could_judge_is_left_out_and_counted():
    sound = answers([1, 1, 0, 0])
    broken = EvalAnswers(
        prompt=sound.prompt,
        rollouts=sound.rollouts,
        judgements=(judged(math.nan, "no server"), judged(1), judged(0), judged(0)),
    )
    metrics = summed("s", [broken], ks=(1, 4), threshold=1.0)
    assert metrics["eval/s/mean@4"] == pytest.approx(1 / 3)
    assert metrics["eval/s/pass@1"] == pytest.approx(1 / 3)
    assert "eval/s/pass@4" not in metrics  # three judged samples say nothing of four
    assert metrics["eval/s/unjudged"] == 1


def test_greedy_alone_is_a_summary_too():
    metrics = summed("s", [answers([], greedy=1.0), answers([], greedy=0.0)], ks=(1,))
    assert metrics["eval/s/greedy"] == metrics["eval/s/greedy_se"] == 0.5
    assert metrics["eval/s/length_mean"] == 1.0
    assert not [name for name in metrics if "@" in name]
    assert "eval/s/entropy" not in metrics  # nothing was drawn from what it is of
    assert summed("s", [], ks=(1,), threshold=1) == {}


def test_truncation_rate_counts_responses_cut_off():
    cut = EvalAnswers(
        prompt=answers([1]).prompt,
        rollouts=(rollout(finish_reason="length"), rollout()),
        judgements=(judged(0), judged(1)),
    )
    assert summed("s", [cut], ks=(), threshold=1)["eval/s/truncated_rate"] == 0.5


def test_an_answer_in_the_wrong_form_is_counted_and_one_cut_off_is_not_blamed_for_its_form():
    malformed = Judgement(reward=0, verdicts={"math": Verdict(kind="malformed", reward=0)})
    fine = Judgement(reward=0, verdicts={"math": Verdict(kind="wrong_answer", reward=0)})
    mixed = EvalAnswers(
        prompt=answers([1]).prompt,
        rollouts=(rollout(), rollout(), rollout(), rollout(finish_reason="length")),
        judgements=(malformed, fine, fine, malformed),
    )
    assert summed("s", [mixed], ks=(), threshold=1)["eval/s/malformed_rate"] == 1 / 3


def test_accuracy_by_length_has_half_open_bins_and_leaves_empty_ones_out():
    problem = Problem.of(answers([1, 0, 1, 1], lengths=[1, 9, 10, 40]), Protocol(num_samples=4))
    bins = by_length([problem], edges=(0, 10, 20, 40), threshold=1.0)
    assert [(b.low, b.high, b.count, b.accuracy) for b in bins] == [(0, 10, 2, 0.5), (10, 20, 1, 1)]


def test_edges_halve_the_limit_and_take_in_the_longest_response():
    assert edges_to(4096) == [0, 256, 512, 1024, 2048, 4097]
    assert edges_to(5) == [0, 1, 2, 6]


# --- measures of text and length


def texts(*said: str, prompt: str = "", **more) -> EvalAnswers:
    found = answers([1.0] * len(said), list(said), **more)
    return replace(found, prompt=replace(found.prompt, text=prompt))


def test_half_the_limit_takes_from_the_right_answers_those_that_are_longer():
    # Limit 10. Right are lengths 5, 6 and 10, wrong is 4: 3 of 4, and 1 of 4 at half the limit.
    found = answers([1, 1, 1, 0], lengths=[5, 6, 10, 4])
    metrics = summed("s", [found], sampling=Sampling(max_tokens=10))
    assert metrics["eval/s/halved_right"] == 0.25
    assert metrics["eval/s/halved_loss"] == pytest.approx(50.0)


def test_a_thought_is_paired_and_not_empty_and_the_prompt_may_have_opened_it():
    said = ("<think>a</think>b", "a</think>b", "<think>a", "<think> </think>b")
    assert summed("s", [texts(*said)])["eval/s/think_rate"] == 0.25
    opened = summed("s", [texts(*said, prompt="Q <think>\n")])
    assert opened["eval/s/think_rate"] == 0.5  # the second one; the third never ends


def test_a_right_answer_in_the_wrong_format_still_counts_as_right():
    metrics = summed("s", [texts("7"), texts("7")], ks=(1,))
    assert (metrics["eval/s/pass@1"], metrics["eval/s/think_rate"]) == (1.0, 0.0)


def test_one_word_of_the_list_in_any_case_is_a_reflection_and_parts_of_words_are_none():
    said = ("Wait, no.", "I re-examine it", "a button, checked; waiting", "sure", "BUT")
    words = ("wait", "re-examine", "check", "but")
    metrics = summed("s", [texts(*said)], reflection_words=words)
    assert metrics["eval/s/reflection_rate"] == pytest.approx(3 / 5)
    assert "eval/s/reflection_rate" not in summed("s", [texts(*said)])


def test_repetition_is_the_mean_of_the_responses():
    found = answers([1, 1], lengths=[10, 1])  # ten equal tokens: 6 of 7 4-grams stood before
    assert summed("s", [found])["eval/s/repetition_rate"] == pytest.approx(3 / 7)


def test_each_category_has_its_score_with_an_error_over_its_problems():
    def of(category: object, *rewards: float, greedy: float | None = None) -> EvalAnswers:
        found = answers(list(rewards), greedy=greedy)
        reference = {"meta": {"task": category}}
        return replace(found, prompt=replace(found.prompt, reference=reference))

    sums, games = [of("sums", 1, 0), of("sums", 1, 1)], [of("card games/new", 0, 0)]
    metrics = summed("s", [*sums, *games], category="meta.task")
    assert metrics["eval/s/sums/mean@2"] == 0.75
    assert metrics["eval/s/sums/mean@2_se"] == 0.25
    assert metrics["eval/s/card_games_new/mean@2"] == 0.0
    assert score_of(metrics) == metrics["eval/s/mean@2"] == 0.5
    alone = summed("s", [of(7, greedy=1.0)], category="meta.task")
    assert alone["eval/s/7/greedy"] == 1.0


def test_the_average_over_sets_counts_each_set_once_and_what_all_of_them_have():
    metrics = {"eval/a/mean@2": 0.5, "eval/a/mean@2_se": 0.1, "eval/a/x/mean@2": 9.0}
    metrics |= {"eval/b/mean@2": 0.25, "eval/b/greedy": 1.0, "eval/score": 7.0}
    assert averages(metrics) == {"mean@2": 0.375}
    assert averages({"eval/a/mean@2": 0.5}) == {}


def test_a_protocol_is_told_in_a_line_and_read_back():
    drawn = Sampling(temperature=0.6, top_p=0.95, top_k=40, max_tokens=129024)
    protocol = Protocol(name="pcl", num_samples=32, sampling=drawn, greedy=False, ks=(1, 32))
    assert str(protocol) == "pcl, n 32, T 0.6, top-p 0.95, top-k 40, at most 129,024 tokens"
    assert Protocol.from_json(protocol.to_json()) == protocol
    greedy = replace(protocol, name="", num_samples=0, greedy=True)
    assert str(greedy) == "greedy, at most 129,024 tokens"
    both = replace(protocol, name="", greedy=True, sampling=Sampling(max_tokens=9))
    assert str(both) == "n 32, T 1, top-p 1, top-k off, at most 9 tokens, and greedy"


@pytest.mark.parametrize("name", MEASURES.names())
def test_a_measure_of_nothing_is_absent(name):
    measure = MEASURES.load(name).measure
    none = Problem.of(answers([]), Protocol(num_samples=4))
    said = Protocol(num_samples=4, category="c", reflection_words=("wait",))
    assert measure([], said) == measure([none], said) == {}

"""Think and answer tags: loose, strict, opened by the prompt, and thinking alone."""

import time

import pytest

from tests.support import speed
from tests.support.judging import built, prompt, rollout

T, A = "<think>a</think>", "<answer>b</answer>"


def judged(text, *, opening="", reason="stop", **options):
    return built("format", **options).verify(
        prompt({}, {"format": 1.0}, "q" + opening), rollout(text, reason)
    )


@pytest.mark.parametrize(
    ("text", "is_loose", "is_strict"),
    [
        (T + A, True, True),
        (f"so {T} then\n{A} done", True, True),
        (T + T + A, True, False),
        (T + A + A, True, False),
        (A + T, True, False),
        (T + A + "<answer>", True, False),
        (T + A + "</think>", True, False),
        (T, False, False),
        (A, False, False),
        ("", False, False),
        ("<think> </think>" + A, False, False),
        (T + "<answer>\n</answer>", False, False),
        ("<think>a<answer>b</think></answer>", False, False),
        ("<think>a" + A, False, False),
        ("a</think>" + A, False, False),
        (r"<think>a</think>\boxed{b}", False, False),
        ("<think>I will use <answer> tags.</think>" + A, True, False),
        ("<think>In <answer>b</answer> tags, after </answer>.</think>" + A, True, False),
        ("<think>With <think> and <answer> tags.</think>" + A, True, False),
        ("<answer> tags I use after <think> tags. " + T + A, True, False),
        (T + "<answer>The <think> tag, or <think></think>.</answer>", True, False),
        ("<think>I will use <answer>b</answer> tags.</think>", False, False),
        ("<think>I will use <answer> tags.</think> b</answer>", False, False),
        ("<think>I will use <answer> tags." + A, False, False),
        ("<think><answer></think>" + A, False, False),
        ("<answer>" + T + "</answer>", False, False),
        (T + "<answer> tags: <answer></answer>", False, False),
    ],
)
def test_each_rule_is_kept_or_not(text, is_loose, is_strict):
    for rule, is_kept in {"loose": is_loose, "strict": is_strict}.items():
        verdict = judged(text, rule=rule)
        assert (verdict.reward, verdict.kind) == (
            (1.0, "accepted") if is_kept else (0.0, "malformed")
        )
        assert (verdict.parts["loose"], verdict.parts["strict"]) == (is_loose, is_strict)


def test_a_thought_that_the_prompt_opened_is_paired_with_its_end():
    assert judged("a</think>" + A, opening="<think>\n", rule="strict").reward == 1.0
    assert judged(T + A, opening="<think>\n", rule="strict").reward == 0.0
    assert judged(T + A, opening="<think>\n").reward == 1.0
    assert judged(" </think>" + A, opening="<think>").detail == "no think block"


def test_thinking_alone_may_be_asked_for():
    for rule in ("loose", "strict"):
        assert (
            judged("a</think> <answer>", opening="<think>", require="think", rule=rule).reward == 1
        )
        assert judged("a", opening="<think>", require="think", rule=rule).reward == 0
        assert judged(A, require="think", rule=rule).reward == 0
    assert judged(T + T, require="think").parts == {"think": 1.0, "loose": 1.0, "strict": 0.0}


def test_a_megabyte_of_tags_is_read_once():
    started = time.process_time()
    for piece in ("<think>", "</think>", T, A, T + A, "<answer>a<think>b"):
        judged(piece * (10**6 // len(piece)))
    assert time.process_time() - started < speed.here(5.0)


def test_the_detail_says_what_is_missing_or_too_many():
    assert judged("x").detail == "no think and no answer block"
    assert (
        judged(T + T + A, rule="strict").detail
        == "blocks think, think, answer; wanted think, answer"
    )
    assert judged(T + A + "</think>", rule="strict").detail == "5 tags around 2 blocks"

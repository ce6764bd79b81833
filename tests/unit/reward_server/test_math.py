"""What the math verifier takes for right. The tables hold the known errors of other verifiers."""

import time

import math_verify
import pytest

from oapl.errors import InputError
from reward_server.answers import equality
from reward_server.verifiers import math
from tests.agreement.math import judge_all, judge_cases, model_solutions
from tests.support import math_kinds, real_data
from tests.support.judging import built, prompt, rollout
from tests.support.math_cases import cases

# answer, reference
RIGHT = [
    ("5", "5"), ("5.", "5"), (r"10\,000", "10000"), ("10,000", "10000"), ("10 000", "10000"),
    ("1{,}000", "1000"), ("025", "25"), ("−3", "-3"), ("-1/2", "-0.5"), (r"\dfrac12", "1/2"),
    ("3 1/2", "7/2"), (r"3\frac{1}{2}", r"\frac{7}{2}"), ("½", "0.5"), ("3½", "3.5"),
    (r"0.\overline{3}", r"\frac13"), (r"1.2\times10^5", "120000"), ("2^{10}", "1024"),
    (r"50\%", "50"), ("50%", "0.5"), ("0.5", r"50\%"), ("50 percent", "50"), (r"\$18", "18"),
    ("18 dollars", "18"), (r"12\text{ cm}^2", "12"), ("5 cm", "5"), (r"90^\circ", "90"),
    ("90°", "90"), (r"\frac{3}{4}\text{ hours}", "0.75"), ("$5$", "5"), (r"\(5\)", "5"),
    ("√2", r"\sqrt{2}"), ("√(3)", r"\sqrt3"), ("sqrt(2)", r"\sqrt{2}"), ("x²", "x^2"),
    ("∞", r"\infty"), ("pi/4", r"\frac{\pi}{4}"), (r"2\pi", "2π"), ("i", r"\sqrt{-1}"),
    (r"\text{(A)}", "A"), ("(A)", "A"), ("a", "A"), (r"\text{Evelyn}", "evelyn"),
    (r"\text{even}", "even"), ("no solution", "No solution"), (r"\text{June 20}", "June 20"),
    ("x = 5", "5"), ("5", "x=5"), ("2+3=5", "5"), (r"f(x)=x+1", "x+1"), (r"x \in [0,1]", "[0,1]"),
    (r"\frac{1}{3} \approx 0.33", "1/3"), ("y = 2x+3", "y=3+2x"), ("1, -2", "x=1 or x=-2"),
    ("2,1", "1,2"), ("1 or 2", "1,2"), (r"1 \text{ and } 2", "1,2"), ("1,2", "x=1,2"),
    ("(1,2)", "(1, 2)"), (r"\left(1,2\right)", "(1,2)"), (r"\{1,2,3\}", r"\{3,2,1\}"),
    ("[0,1)", r"0\le x<1"), ("x>2", r"(2,\infty)"), (r"\varnothing", r"\emptyset"),
    (r"(-\infty,3]\cup[5,\infty)", r"(-\infty, 3] \cup [5, \infty)"),
    (r"3\pm\sqrt2", r"3\pm\sqrt{2}"), ("1011", "1011_2"), ("1011_2", "1011_{2}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"), ("x^2+2x+1", "(x+1)^2"),
    (r"11\sqrt2", r"\sqrt{242}"), (r"\frac{-1}{2}", r"-\frac12"), ("6 - 5i", "6-5i"),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"), ("e^{x^2}", "e^{x^2}"), ("10:30", "10:30"),
]  # fmt: skip
WRONG = [
    ("0.0000003", "0.0000004"), ("0.0000001", "0"), ("0.333", "1/3"), (r"\sqrt{2}", "1.414"),
    ("12345678901234567891", "12345678901234567890"), ("-2 1/4", "-1.75"), ("31/2", "3 1/2"),
    ("3 1/2", "31/2"), ("1 2", "12"), ("50", "0.5"), ("listen", "silent"), ("yes", "no"),
    ("1011_2", "1011_3"), ("11", "1011_2"), ("a+b", "A+B"), ("B", "A"), ("A or B", "A"),
    ("x", "5"), ("5x", "5"), ("6", "5"), ("", "5"), ("NaN", "5"), (r"\infty", "5"), ("1/0", "0"),
    ("3,4", "4"), ("5,5", "5"), ("3 or 4", "3"), (r"3 \text{ or } 4", "3"), (r"\{3,4\}", "3"),
    (r"3\text{ or }4", "3"), (r"\pm 3", "3"), ("4=5", "5"), ("3 if x>0", "3"), ("(1,2)", "(2,1)"),
    (r"[0,1]", "[0,1)"), (r"\frac{1-\sqrt5}{2}", r"\frac{1-\sqrt5}{-2}"),
    (r"\sum_{k=1}^{100} k", "5050"), (r"\int_0^1 2x dx", "1"), (r"\prod_{k=1}^{3} k", "6"),
    ("5!", "120"), (r"\binom{5}{2}", "10"), (r"2\cdot 3", "6"), ("1+1", "2"), ("7-5", "2"),
]  # fmt: skip
# Just past a limit each: of length, of nesting, of digits, and of what is left to be worked out.
PAST_A_LIMIT = [
    "7" * (equality.MAX_LENGTH + 1), "{" * (equality.MAX_DEPTH + 1) + "7" + "}" * 26,
    "(" * (equality.MAX_DEPTH + 1) + "7" + ")" * 26, r"\int_0^1 7 dx", r"\prod_{k=7}^{7} k",
    "7!/6!", r"\binom{7}{1}", r"\sum_{k=7}^{7} k",
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_equal_answers_are_accepted(answer, gold):
    assert equality.same(answer, gold)[0]


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_unequal_unfinished_or_hedged_answers_are_refused(answer, gold):
    assert not equality.same(answer, gold)[0]


@pytest.mark.parametrize("answer", PAST_A_LIMIT, ids=range(len(PAST_A_LIMIT)))
def test_what_passes_a_limit_is_refused_before_anything_is_compared(answer, monkeypatch):
    monkeypatch.setattr(equality.symbolic, "same", None)
    assert not equality.same(answer, "7")[0]


@pytest.mark.parametrize(("answer", "gold", "is_right"), math_kinds.pairs())
def test_what_other_readers_get_wrong_is_told_apart(answer, gold, is_right):
    response = answer if "<answer>" in answer else rf"\boxed{{{answer}}}"
    verdict = judged(response, gold)
    assert (verdict.kind == "accepted") == is_right, verdict


def test_the_papers_rule_accepts_what_either_part_accepts(monkeypatch):
    monkeypatch.setattr(math, "ALARM_S", 60)  # what it says, on however slow a machine
    assert math.prorl("10,000", "10000")[0]
    assert math.prorl("x^2+2x+1", "(x+1)^2")[0]
    assert math.prorl(r"2\cdot 3", "6")[0]  # the default refuses this one
    assert not math.prorl("6", "5")[0]
    assert not math.prorl("0.0000003", "0.0000004")[0]


def test_a_comparison_that_outlasts_math_verifys_patience_is_a_counted_timeout(monkeypatch):
    def patient(*_, **__):
        time.sleep(0.05)
        return False

    monkeypatch.setattr(math, "ALARM_S", 0.05)
    monkeypatch.setattr(math_verify, "parse", lambda *_, **__: [])
    monkeypatch.setattr(math_verify, "verify", patient)
    verdict = judged(r"\boxed{x}", "7", mode="prorl")
    assert (verdict.kind, verdict.reward) == ("timeout", 0.0)


def test_firm_verdicts_are_given_on_written_answers_of_every_kind():
    written = cases()
    assert len(written) >= 250
    assert 0.15 < sum(case.is_held_out for case in written) / len(written) < 0.3
    said = judge_cases(written)
    misses = [one for one in said if not one.is_agreed]
    told = "\n".join(f"{one.of}: {one.answer!r} for {one.gold!r}: {one.kind}" for one in misses)
    assert 1 - len(misses) / len(said) >= 0.985, told


def judged(text, reference="4", reason="stop", prompt_text="q", **options):
    question = prompt({"answer": reference}, text=prompt_text)
    return built("math", **options).verify(question, rollout(text, reason))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (r"\boxed{4}", "accepted"),
        (r"\boxed{3} wait, \boxed{4}", "accepted"),
        (r"\boxed{4} wait, \boxed{3}", "wrong_answer"),
        (r"\boxed{\boxed{4}}", "accepted"),
        ("<answer>4</answer>", "accepted"),
        (r"<answer>\boxed{4}</answer>", "accepted"),
        (r"<think>\boxed{3}</think> \boxed{4}", "accepted"),
        (r"<think>\boxed{4}</think> so 4", "malformed"),
        (r"<think>\boxed{4}", "malformed"),
        (r"\boxed{4}</think> it is", "malformed"),
        (r"\boxed{4</think>", "malformed"),
        ("the answer is 4", "malformed"),
        (r"\boxed{}", "malformed"),
        ("", "malformed"),
    ],
)
def test_only_the_last_answer_outside_of_thinking_counts(text, kind):
    assert judged(text).kind == kind


def test_a_prompt_that_opens_the_thinking_wants_it_closed():
    assert judged(r"\boxed{4}", prompt_text="q<think>\n").kind == "malformed"
    assert judged(r"hm</think>\boxed{4}", prompt_text="q<think>\n").kind == "accepted"


def test_the_range_of_the_reward_is_selectable():
    assert judged(r"\boxed{5}").reward == 0.0
    assert judged(r"\boxed{5}", range="minus_one_one").reward == -1.0
    assert judged("none", range="minus_one_one").reward == -1.0
    assert judged(r"\boxed{4}", range="minus_one_one").reward == 1.0


def test_a_truncated_response_is_wrong_unless_it_is_to_be_judged():
    assert judged(r"\boxed{4} and", reason="length").kind == "malformed"
    assert judged(r"\boxed{4} and", reason="length", truncated="judge").kind == "accepted"


def test_where_the_answer_stands_is_selectable():
    both = r"\boxed{4} <answer>5</answer>"
    assert judged(both, answer_in="boxed").kind == "accepted"
    assert judged(both, answer_in="tag").kind == "wrong_answer"
    assert judged(both).kind == "wrong_answer"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2 + 2 = 4\n#### 4", "accepted"),
        ("####4.00  \n", "accepted"),
        ("#### 4\n\nQuestion: and 2 + 3?\n#### 5", "accepted"),
        ("#### 5\n#### 4", "wrong_answer"),
        ("it is #### 4", "malformed"),
        ("####\n4", "malformed"),
        (r"\boxed{4}", "malformed"),
        ("<think>\n#### 4\n</think>\n#### 5", "wrong_answer"),
    ],
)
def test_an_answer_may_stand_behind_hashes_as_in_gsm8k(text, kind):
    """What follows the first such line is of another question."""
    assert judged(text, answer_in="hashes").kind == kind


def test_hashes_are_no_answer_unless_asked_for():
    assert judged("#### 4").kind == "malformed"
    detail = judged(r"\boxed{4}", answer_in="hashes").detail
    assert detail == "no line of ####, but an answer in another form"
    assert judged("so 4", answer_in="hashes").detail == "no line of ####"


def test_any_of_several_references_will_do():
    assert judged(r"\boxed{4}", reference=["3", "4"]).kind == "accepted"
    assert judged(r"\boxed{4}", reference="so\n#### 4").kind == "accepted"
    assert judged(r"\boxed{4}", reference=4).kind == "accepted"


def test_a_prompt_without_a_reference_is_refused_by_name():
    with pytest.raises(InputError, match="p:0@0 has no reference answer"):
        judged(r"\boxed{4}", reference=None)


def test_real_model_solutions_are_judged_as_their_makers_judged_them():
    try:
        work = list(model_solutions())
    except real_data.Absent as absent:
        pytest.skip(str(absent))
    said = judge_all(work)
    assert len(said) > 4000
    assert sum(one.is_agreed for one in said) / len(said) > 0.999

"""The parts behind expressions: what is read, what has which value, and what is too much."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.answers import equality, equations, identity, reader, regions, values
from reward_server.answers.arithmetic import MAX_MAGNITUDE, NoValue, TooLarge
from reward_server.answers.functions import MAX_DEGREE, MAX_FACTORIAL
from reward_server.answers.trees import Apply, Name, Number, free_names
from reward_server.answers.values import MAX_SPAN, MAX_TERMS
from tests.support import speed

PIECES = [
    "1", "12", "3", "x", "n", "e", "i", r"\pi ", "+", "-", "*", "/", "^", "^{", "}", "{", "(", ")",
    "[", "]", r"\frac{", "}{", r"\sqrt{", r"\sqrt[3]{", "!", "!!", "|", r"\sum_{k=1}^{n}", "dx",
    r"\int_0^1 ", r"\ln ", r"\log_2 ", r"\tan ", r"\lfloor ", r"\rfloor ", r"\gcd(", ",", r"\bmod ",
    r"\pmod{", "=", r"\ne ", r"\cup ", r"\infty ", r"\mathbb{R}", r"\vec ", r"\bar{", "'", "_",
    "_{", r"\Gamma ", "f(", r"\Delta ", r"\angle ", r"\{", r"\}", " ",
]  # fmt: skip
anything = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def number(value):
    return Number(Fraction(value))


@given(anything, st.sampled_from(["7", "x+1", r"\sum_{k=1}^{n} k", "x=5", "[0,1]"]))
@settings(max_examples=300, deadline=None)
def test_any_text_gets_a_verdict(answer, gold):
    assert equality.same(answer, gold)[0] in (True, False)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("2x", Apply("*", (number(2), Name("x")))),
        ("1/2x", Apply("/", (number(1), Apply("*", (number(2), Name("x")))))),
        ("-x^2", Apply("*", (number(-1), Apply("^", (Name("x"), number(2)))))),
        (r"2\frac{1}{3}", number(Fraction(7, 3))),
        (r"\vec{v}_1'", Name(r"\vec v_1'")),
        ("x_{n+1}^*", Name("x_n + 1^*")),
        (r"\sin^{-1} x", Apply("arcsin", (Name("x"),))),
        (r"\frac{dy}{dx}", Name("d y / d x")),
        (r"\sum_{k=1}^{n} k", Apply("sum", (Name("k"), number(1), Name("n"), Name("k")))),
        ("5!!", Apply("!!", (number(5),))),
        ("x > 2", Apply("<", (number(2), Name("x")))),
        (r"x \equiv 1 \pmod 3", Apply("equiv", (Name("x"), number(1), number(3)))),
    ],
)
def test_an_expression_is_read_with_its_marks_and_bounds(text, tree):
    assert reader.read(text) == tree


@pytest.mark.parametrize(
    "text",
    ["2 3", "{2}{3}", "x2", r"\ln x/2", r"\sin x(x+1)", r"\sin(x)^2", "x^2^3", r"\nabla f", "x +",
     "5 if x", "sgn(x)", r"\sqrt 10", r"f(x)|_{x=3}", "1<x=2", "(1,2)", r"\sum_{i=1}^n x_i", "",
     "x y)", r"3\pm 1", "5 \\%", r"\foo x", "2{3}", r"\sum_{k} k", r"\int_0^1 x", "|x", "{}",
     "x'_"],
)  # fmt: skip
def test_what_has_no_one_meaning_is_not_read(text):
    with pytest.raises(reader.Unread):
        reader.read(text)


def is_zero(text, is_complex=False, **at):
    point = {name: Fraction(value) for name, value in at.items()}
    return values.is_zero(reader.read(text), point, values.Budget(), is_complex=is_complex)


@pytest.mark.parametrize(
    "text",
    [r"\sqrt{2}^2-2", r"\sqrt{2}+\sqrt{3}-\sqrt{5+2\sqrt{6}}", r"\cos\frac{\pi}{2}", r"\log_2 8-3",
     r"\sqrt[3]{-8}+2", "10^{300}+1-10^{300}-1", r"\lfloor\log_2 8\rfloor-3", r"\gcd(12,18)-6",
     r"\sum_{k=1}^{4}k^2-30", r"\binom{5}{2}-10", "7!!-105", r"(17\bmod 5)-2",
     r"\max\{1,\sqrt2\}-\sqrt2", r"\Gamma(5)-24", r"\zeta(2)-\frac{\pi^2}{6}", "f(1+1)-f(2)"],
)  # fmt: skip
def test_what_is_zero_is_found_to_be(text):
    assert is_zero(text)


@pytest.mark.parametrize(
    "text",
    [r"\pi+10^{-100}-\pi", r"10^{200}\pi+1-10^{200}\pi", r"2^{-900}", "f(2)-f(3)", "f(2)-g(2)",
     r"\int_0^1 x dx-\int_0^1 x^2 dx", r"e^{-1000}", r"\sqrt{10^{60}+1}-10^{30}"],
)  # fmt: skip
def test_what_is_not_zero_is_not_taken_for_it(text):
    assert not is_zero(text)


def test_without_complex_numbers_a_negative_one_has_no_root():
    with pytest.raises(NoValue):
        is_zero(r"\sqrt{-4}")
    assert is_zero(r"\sqrt{-4}-2i", is_complex=True)
    assert is_zero(r"e^{i\pi}+1", is_complex=True)


@pytest.mark.parametrize(
    "text",
    ["1/0", r"\tan\frac{\pi}{2}", r"\ln 0", "0^{-1}", r"\frac{1}{\sqrt{2}^2-2}", r"0.5!", "(-1)!",
     r"\gcd(0.5,2)", r"5\bmod 0", r"\infty-\infty"],
)  # fmt: skip
def test_what_has_no_value_has_none(text):
    with pytest.raises(NoValue):
        is_zero(text)


@pytest.mark.parametrize(
    "text",
    [f"{MAX_FACTORIAL + 1}!", rf"\binom{{{MAX_FACTORIAL + 1}}}{{2}}", f"3^{{{MAX_MAGNITUDE}}}",
     rf"\sum_{{k=0}}^{{{MAX_TERMS}}} k", f"e^{{{MAX_MAGNITUDE}}}", rf"\cosh {MAX_MAGNITUDE}",
     rf"\pi 10^{{{MAX_SPAN + 50}}}+\pi", r"\sum_{i=1}^{99}\sum_{j=1}^{99} ij"],
)  # fmt: skip
def test_just_past_a_limit_is_too_large_and_takes_no_time(text):
    started = time.process_time()
    with pytest.raises(TooLarge):
        is_zero(text)
    assert time.process_time() - started < speed.here(0.5)


def test_a_root_of_too_high_a_degree_has_no_value():
    with pytest.raises(NoValue):
        is_zero(rf"\sqrt[{MAX_DEGREE + 1}]{{2}}")


def test_more_digits_cost_more_of_the_budget():
    budget = values.Budget(1000)
    far = reader.read(r"10^{300}\pi+\pi")
    values.is_zero(reader.read(r"10\pi+\pi"), {}, budget)
    near = 1000 - budget.steps
    values.is_zero(far, {}, budget)
    assert 1000 - near - budget.steps > 5 * near
    with pytest.raises(TooLarge):
        values.is_zero(far, {}, values.Budget(20))


@pytest.mark.parametrize(
    ("left", "right", "is_equal"),
    [
        ("(x+y)^2", "x^2+2xy+y^2", True), (r"\sqrt{x^2}", "|x|", True), (r"\sqrt{x^2}", "x", False),
        (r"\cos n\pi", "(-1)^n", True), (r"\sin n\pi", "0", False), ("|xy|", "xy", False),
        (r"\gcd(a,b)", "1", False), ("n!", r"\prod_{k=1}^n k", True), (r"\ln x^2", r"2\ln x", True),
        ("(1+i)^2", "2i", True), (r"\infty", r"\infty", True), (r"\infty", r"-\infty", False),
        (r"\infty-\infty", "0", False), (r"\lceil x\rceil", r"\lfloor x\rfloor+1", False),
    ],
)  # fmt: skip
def test_expressions_are_equal_where_their_values_are(left, right, is_equal):
    assert identity.are_equal(reader.read(left), reader.read(right)) == is_equal


def test_an_inequality_is_no_other_for_a_negative_factor():
    left, right = reader.read("x-y"), reader.read("2y-2x")
    assert identity.are_multiples(left, right, positive=False)
    assert not identity.are_multiples(left, right, positive=True)


def test_the_points_of_one_variable_are_of_either_sign_and_integers_odd_and_even():
    points = [at["x"] for at in identity._points(Name("x"))]
    whole = [point for point in points if point.denominator == 1]
    assert min(points) < 0 < max(points)
    assert {point % 2 for point in whole} == {0, 1}
    assert len(set(points)) > 20


def test_what_is_bound_is_not_free():
    assert free_names(reader.read(r"\sum_{k=1}^{n} kx")) == {"n", "x"}


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        (r"\mathbb{R}\setminus\{0,1\}", r"(-\infty,0)\cup(0,1)\cup(1,\infty)", True),
        (r"\mathbb{R}\setminus[0,1)", r"(-\infty,0)\cup(1,\infty)", False),
        (r"(0,2)\cap[1,3)", "[1,2)", True), (r"\{1\}\cup\{2\}", r"\{2,1\}", True),
        (r"x\ne\sqrt2", r"(-\infty,\sqrt{2})\cup(\sqrt{2},\infty)", True),
        (r"x\ne 1.4142135623", r"(-\infty,\sqrt{2})\cup(\sqrt{2},\infty)", False),
        (r"\emptyset", r"\mathbb{R}", False), (r"\mathbb{R}", r"(-\infty,\infty)", True),
        (r"\mathbb{Z}", r"\mathbb{R}", None), (r"A\cup B", r"B\cup A", None), ("1", "2", None),
    ],
)  # fmt: skip
def test_sets_of_numbers_are_the_same_if_they_hold_the_same_ones(left, right, is_same):
    assert regions.same(left, right) is is_same


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x=5", ["x", "5"]), (r"\sum_{k=1}^{n} k", [r"\sum_{k=1}^{n} k"]), ("x<=5", ["x<=5"]),
        ("a_{n=1}=2", ["a_{n=1}", "2"]), ("P(X=1)=2", ["P(X=1)", "2"]), ("M=[2,3)", ["M", "[2,3)"]),
    ],
)  # fmt: skip
def test_only_an_equals_sign_outside_of_brackets_makes_an_equation(text, found):
    assert equations.sides(text) == found

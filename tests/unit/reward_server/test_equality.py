"""The parts behind the math verdicts: structures, units of measure, symbolic comparison."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.answers import equality, notation, structures, symbolic, units

PIECES = [
    "1", "12", "x", " ", ",", "(", ")", "[", "]", "{", "}", r"\{", r"\}", "<", r"\le ", "=", ":",
    r"\pm ", r"\cup ", r"\frac", r"\text{", r"\mathrm{cm}", "^", "^2", "/", "m", "or ", "%", "$",
    r"\begin{pmatrix}", r"\end{pmatrix}", "&", r"\\", "...", r"\infty", "√", "½", "\ud800", "\0",
]  # fmt: skip
anything = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@given(anything, st.sampled_from(["7", "(1,2)", "1,2", "x=5", r"\{1\}", "x>2", "3:4", "5 cm", "A"]))
@settings(max_examples=300, deadline=None)
def test_no_answer_breaks_the_rules_before_the_symbolic_ones(answer, gold):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symbolic, "same", lambda *_: (False, "not asked"))
        assert equality.same(answer, gold)[0] in (True, False)
        if notation.clean(answer):
            assert equality.same(answer, answer)[0]


@pytest.mark.parametrize(
    ("text", "kind", "items"),
    [
        ("1, 2 and 3", "list", ("1", "2", "3")),
        ("1,234", "single", ("1,234",)),
        ("1,234,5", "list", ("1", "234", "5")),
        ("(1,2)", "bracketed", ("1", "2")),
        ("(1,2),(3,4)", "list", ("(1,2)", "(3,4)")),
        ("(1,2)+(3,4)", "single", ("(1,2)+(3,4)",)),
        (r"\{1,(2,3)\}", "set", ("1", "(2,3)")),
        (r"\{\}", "set", ()),
        (r"1\pm\sqrt2", "list", (r"1+\sqrt2", r"1-\sqrt2")),
        (r"[0,1)\cup(2,3]", "union", ("[0,1)", "(2,3]")),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "matrix", ("1", "2", "3", "4")),
        ("f(1,2)", "single", ("f(1,2)",)),
    ],
)
def test_the_outermost_structure_is_read(text, kind, items):
    found = structures.read(text)
    assert (found.kind, found.items) == (kind, items)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x>2", r"(2,\infty)"), (r"2 \le x", r"[2,\infty)"), (r"1<x\le 2", "(1,2]"),
        ("5>x>1", "(1,5)"), (r"x<1 or x>2", r"(-\infty,1) \cup (2,\infty)"),
        (r"\{x \mid x>2\}", r"(2,\infty)"), (r"x \in [0,1]", "[0,1]"),
        ("x<y", "x<y"), ("x<1 or y>2", "x<1 or y>2"), ("1<2", "1<2"), ("a+b>2", "a+b>2"),
    ],
)  # fmt: skip
def test_solutions_become_intervals_where_they_are_relations_of_one_variable(text, shown):
    assert structures.solution(text) == shown


@pytest.mark.parametrize(
    ("text", "other", "ratio"),
    [
        ("km", "m", 1000), ("km/h", "m/s", Fraction(5, 18)), ("miles per hour", "mph", 1),
        ("square inches", "cm^2", Fraction(64516, 10000)), ("N m", "J", 1), ("kWh", "MJ", 3.6),
        (r"\text{m}/\text{s}^2", "m s⁻²", 1), ("mL", "cm^3", 1), ("MHz", "kHz", 1000),
        (r"\mu m", "nanometers", 1000), ("J/(kg K)", "m^2 s^{-2} K^{-1}", 1), ("weeks", "days", 7),
        ("cents", "dollars", Fraction(1, 100)), ("meters per second squared", "m/s^2", 1),
        ("hours", "min", 60), ("M", "mol/L", 1), ("Å", "nm", Fraction(1, 10)),
    ],
)  # fmt: skip
def test_units_have_dimensions_and_exact_factors(text, other, ratio):
    left, right = units.parse(text), units.parse(other)
    assert left.fits(right)
    assert left.factor / right.factor == Fraction(str(ratio))


@pytest.mark.parametrize("text", ["", "apples", "x", "i", "xyz", "per hour", "km h k", "m^99", "2"])
def test_what_is_no_unit_through_and_through_is_none(text):
    assert units.parse(text) is None


@pytest.mark.parametrize(
    ("one", "other"), [("J", "N"), ("°C", "K"), ("rad", "deg"), ("kg", "lb s")]
)
def test_units_of_other_dimensions_do_not_fit(one, other):
    assert not units.parse(one).fits(units.parse(other))


@pytest.mark.parametrize(
    ("answer", "gold", "is_same"),
    [
        (r"e^{i\pi}", "-1", True), (r"\frac{4 A}{3+3 i} e^{i t}", r"\frac{4A}{3+3i}e^{it}", True),
        ("2x-4y+6=0", "x-2y+3=0", True), ("xy=1", r"y=\frac{1}{x}", True),
        ("x=y^2", "y=x^2", False),
        (r"\frac{dx}{dt}=kx-a", r"-\frac{dx}{dt}=kx-a", False), ("y'=y", "y'=2y", False),
        (r"\frac{dx}{dt}", r"2\frac{dx}{dt}", False),
        (r"10^{-20}\pi", r"2\cdot 10^{-20}\pi", False),
        (r"\cos^2 x", r"1-\sin^2 x", True), (r"\cos^2 x", r"1-\sin x", False),
        (r"\sqrt{x^2}", "|x|", True), ("|x|", "x+1", False),
    ],
)  # fmt: skip
def test_expressions_and_equations_are_compared_by_what_they_mean(answer, gold, is_same):
    assert symbolic.same(answer, gold)[0] == is_same

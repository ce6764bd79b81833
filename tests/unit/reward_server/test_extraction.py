"""Finding the answer in any text: the last balanced box, the last tag, in linear time."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.answers import notation, numerals, structures
from reward_server.verifiers import base
from tests.support import speed

PIECES = [
    "\\boxed{",
    "{",
    "}",
    "\\{",
    "\\}",
    "3",
    " ",
    "<answer>",
    "</answer>",
    "####",
    "\\",
    "x",
    "\n",
]
anything = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
balanced = st.recursive(
    st.text("ab 1\\,", max_size=4).map(lambda s: s.replace("\\", "\\!")),
    lambda inner: st.tuples(inner, inner).map(lambda p: f"{p[0]}{{{p[1]}}}"),
    max_leaves=6,
)


@given(anything)
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_extraction(text):
    for found in (base.boxed(text), base.tagged(text), base.hashed(text)):
        assert found is None or found[1].strip() in text


@given(
    anything.filter(lambda s: not s.endswith("\\")), balanced, st.sampled_from(["", " end", "."])
)
@settings(max_examples=200, deadline=None)
def test_a_balanced_box_at_the_end_is_found_whatever_stands_before(before, content, after):
    found = base.boxed(f"{before}\\boxed{{{content}}}{after}")
    assert found is not None
    assert found[1] == content.strip()


@given(st.lists(st.text("ab1", min_size=1, max_size=3), min_size=1, max_size=5))
@settings(deadline=None)
def test_of_several_answers_the_last_is_taken(answers):
    text = " then ".join(f"<answer>{answer}</answer>" for answer in answers)
    assert base.tagged(text)[1] == answers[-1]
    text = " then ".join(f"\\boxed{{{answer}}}" for answer in answers)
    assert base.boxed(text)[1] == answers[-1]


def test_an_unbalanced_box_gives_way_to_the_one_before():
    assert base.boxed(r"\boxed{\frac{1}{2}} then \boxed{4")[1] == r"\frac{1}{2}"


def test_hostile_texts_take_linear_time():
    started = time.process_time()
    for text in ("\\boxed{" * 50_000, "\\boxed{" * 20_000 + "}" * 20_000, "<answer>" * 50_000):
        base.boxed(text)
        base.tagged(text)
    assert time.process_time() - started < speed.here(2.0)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_cleaning_any_text_keeps_it_stable(text):
    once = notation.clean(text)
    numerals.number(once)
    assert len(structures.parts(once)) <= len(once) + 1


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_integers_keep_their_value_in_every_spelling(value):
    for text in (
        str(value),
        f"{value:,}",
        f"{value}.",
        f"${value}$",
        f"{value:,}".replace(",", r"\,"),
    ):
        read = numerals.number(notation.clean(text))
        assert read is not None
        assert read.value == value


@given(st.fractions(max_denominator=999))
@settings(deadline=None)
def test_fractions_keep_their_value_in_every_spelling(value):
    top, bottom = value.numerator, value.denominator
    for text in (
        f"{top}/{bottom}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{top}}}{{{bottom}}}",
    ):
        assert numerals.number(notation.clean(text)).value == value

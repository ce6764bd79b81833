"""Instruction following: every kind kept and broken, what counts of a response, what is refused."""

import random
import time

import nltk.redos
import pytest

from oapl.errors import InputError
from reward_server.instructions import _linguistics
from reward_server.instructions.base import bind, kinds
from tests.agreement import ifeval as agreement
from tests.support import real_data, speed
from tests.support.instruction_responses import responses
from tests.support.judging import built, prompt, rollout

KEPT = {"relation": "at least"}
CASES = [
    # kind, what it says, a response that keeps it, one that does not
    ("keywords:existence", {"keywords": ["Fox", "den"]}, "foxes in a garden", "a fox"),
    ("keywords:existence", {"keywords": ["C++"]}, "in c++", "in c"),
    ("keywords:frequency", {**KEPT, "keyword": " cat ", "frequency": 2}, "Cat concat", "cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concat cats", "A Cat."),
    ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, "in C, + and +", "in c++."),
    ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, "Cc+ +", "C++11"),
    ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, "MSVC++", "(C++)"),
    ("keywords:forbidden_words", {"forbidden_words": ["C#"]}, "C and #, AC#", "C# 7"),
    ("keywords:forbidden_words", {"forbidden_words": [".NET"]}, "net, a.network", "on .Net"),
    ("keywords:forbidden_words", {"forbidden_words": ["e.g."]}, "egg, e.g", "so, e.g. this"),
    ("keywords:forbidden_words", {"forbidden_words": ["!"]}, "Stop.", "Stop!"),
    ("keywords:forbidden_words", {"forbidden_words": ["$5", "(x)"]}, "5, x, $55", "f(x)"),
    ("keywords:forbidden_words", {"forbidden_words": [" New York "]}, "New-York", "New\nYork."),
    ("keywords:existence", {"keywords": ["New York"]}, "new\n york", "newyork"),
    ("keywords:frequency", {**KEPT, "keyword": "a.b", "frequency": 2}, "a.b A.B", "a.b aXb"),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 2, "let_relation": "less than"},
        "one",
        "Eve",
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
        "## title",
        "# title",
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Es war einmal ein König, der hatte eine Tochter",
        "Once upon a time there was a king",
    ),
    ("language:response_language", {"language": "de"}, "1 2 3", "There was once a king"),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        "Mr. Fox ran. He was late.",
        "One came. Two came. Three came.",
    ),
    ("length_constraints:number_words", {**KEPT, "num_words": 3}, "it's so", "it is"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***a***b", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a *** b", "a******b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "So"},
        "It was.\n\n\"so', it is",
        "It was.\n\nSome more",
    ),
    *(
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": first},
            good,
            bad,
        )
        for first, good, bad in (
            (".NET", ".net, that", "NET is"),
            ("don't", '"Don\'t!" she', "Don ist"),
            ("U.S.", "u.s. law", "U.S is"),
            ("C++", "C++.", "C is"),
            ("'tis", "'Tis so", "tis so"),
            ("So", '\'"so" it', "So-so"),
        )
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "[a [b] ] [c]",
        "[a]\n[\n]",
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "bye\np. s. hi", "PS hi"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p. s", "P.S."),
    ("detectable_content:postscript", {"postscript_marker": "PS"}, "bye\nps: hi", "maps, PST"),
    ("detectable_content:postscript", {"postscript_marker": "PS:"}, "bye\nps: hi", "maps: hi"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "* a\n** b"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "my answer is no."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a*", "* * **\n*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION2",
        "SECTION 1\nsection 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:json_format", {}, "[]", "[" * 100_000),
    ("detectable_format:title", {}, "<<a>>", "<< >> <<a\n>>"),
    ("combination:two_responses", {}, "a\n******\nb", "a******a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, "why? So.", "So why?"),
    ("startend:end_checker", {"end_phrase": "The End."}, 'It is the end."', "the end. So"),
    ("startend:quotation", {}, ' "a" ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "The EU and NASA.",
        "The EU and Nasa.",
    ),
    ("change_case:english_capital", {}, "THE SHOP IS OPEN ALL DAY", "THE SHOP IS open ALL DAY"),
    ("change_case:english_lowercase", {}, "the shop is open all day", "es war einmal ein könig"),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


def judged(text, instructions, *, opening="", reason="stop", **options):
    reference = {
        "instruction_id_list": [kind for kind, _ in instructions],
        "kwargs": [said for _, said in instructions],
    }
    question = prompt(reference, {"ifeval": 1.0}, text="q" + opening)
    return built("ifeval", **options).verify(question, rollout(text, reason))


NO_COMMA = ("punctuation:no_comma", {})
QUOTED = ("startend:quotation", {})
ENDED = ("startend:end_checker", {"end_phrase": "bye"})


@pytest.mark.parametrize(("kind", "said", "good", "bad"), CASES)
def test_an_instruction_is_kept_by_one_response_and_not_by_another(kind, said, good, bad):
    check = bind(kind, said)
    assert check(good)
    assert not check(bad)


def test_all_25_kinds_are_there_and_tried():
    assert len(kinds()) == 25
    assert set(kinds()) == {kind for kind, *_ in CASES}


def test_the_reward_is_the_share_kept_or_all_or_nothing():
    verdict = judged("a, bye", [NO_COMMA, QUOTED, ENDED])
    assert verdict.reward == pytest.approx(1 / 3)
    assert verdict.kind == "wrong_answer"
    assert verdict.detail == "1 of 3 kept; not punctuation:no_comma; not startend:quotation"
    assert verdict.parts == {"instruction_level": verdict.reward, "prompt_level": 0.0}
    assert judged("a, bye", [NO_COMMA, QUOTED, ENDED], level="prompt").reward == 0.0
    assert judged("a bye", [NO_COMMA, ENDED], level="prompt").reward == 1.0


def test_only_the_text_after_thinking_counts_and_the_space_around_it_does_not():
    assert judged("a, b</think>\n\nbye", [NO_COMMA, ENDED], opening="<think>\n").reward == 1.0
    assert judged("<think>x</think>\n\n" + '"a"', [QUOTED]).kind == "accepted"
    assert judged("bye", [ENDED], opening="<think>").kind == "malformed"
    assert judged("<think>bye", [ENDED]).kind == "malformed"
    assert judged("<think>bye</think>\n", [NO_COMMA]).kind == "malformed"


def test_loose_forgives_asterisks_and_a_first_and_a_last_line():
    for text in ('**"a"**', 'Here it is:\n"a"', '"a"\nI hope this helps.', 'Sure\n*"a"*\nDone'):
        assert judged(text, [QUOTED]).reward == 0.0
        assert judged(text, [QUOTED], mode="loose").reward == 1.0
    assert judged('x\ny\n"a"', [QUOTED], mode="loose").reward == 0.0


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("keywords:frequency", {"keyword": "a", "frequency": 1}, "lacks 'relation'"),
        ("keywords:frequency", {**KEPT, "keyword": "a", "frequency": 0}, "frequency = 0"),
        ("keywords:frequency", {**KEPT, "keyword": "", "frequency": 1}, "keyword = ''"),
        ("keywords:existence", {"keywords": []}, "keywords = "),
        ("keywords:forbidden_words", {"forbidden_words": [" "]}, "forbidden_words = "),
        ("length_constraints:number_words", {"num_words": 3, "relation": "more than"}, "relation"),
        ("language:response_language", {"language": "xx"}, "no language code"),
        ("punctuation:no_comma", {"more": 1}, "has no option 'more'; it takes no options"),
        ("punctuation:nothing", {}, "is no instruction; there are"),
        ("os.path:join", {}, "is no instruction"),
        ("base:bind", {}, "is no instruction"),
    ],
)
def test_what_the_published_verifier_would_draw_at_random_is_refused(kind, said, message):
    with pytest.raises(InputError, match=message) as caught:
        judged("a", [NO_COMMA, (kind, said)])
    assert "p:0@0" in str(caught.value)


@pytest.mark.parametrize(
    "reference",
    [
        {"instruction_id_list": [], "kwargs": []},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
        {"instruction_id_list": "punctuation:no_comma", "kwargs": [{}]},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["x"]},
    ],
)
def test_a_prompt_whose_columns_do_not_fit_is_refused_by_name(reference):
    with pytest.raises(InputError, match="p:0@0"):
        built("ifeval").verify(prompt(reference, {"ifeval": 1.0}), rollout("a"))


def test_options_that_are_none_count_as_not_given():
    """So the set reads where every row has every column."""
    assert judged("a", [("punctuation:no_comma", {"keyword": None, "frequency": None})]).reward == 1


def test_no_kind_takes_quadratic_time():
    """A megabyte of what the published patterns are quadratic in."""
    for piece in ("[", "<<", "\n", " ", "*", "* ", "-", "`", "'", "P.", "SECTION "):
        text = piece * (1_000_000 // len(piece))
        started = time.process_time()
        for kind, said, *_ in CASES:
            if kind.split(":")[0] in ("detectable_content", "detectable_format", "combination"):
                bind(kind, said)(text)
        assert time.process_time() - started < speed.here(5.0)  # quadratic would be hours


def test_sentences_have_no_deadline_of_their_own(monkeypatch):
    """NLTK's runs on while the reader of the sentences takes its time."""
    monkeypatch.setattr(nltk.redos, "DEFAULT_TIMEOUT", 0.1)
    _linguistics.splitter.cache_clear()
    sentences = _linguistics.sentences("It is late. " * 60)
    for _ in range(60):
        next(sentences)
        until = time.process_time() + 0.01
        while time.process_time() < until:
            pass
    assert next(sentences, None) is None
    _linguistics.splitter.cache_clear()


def test_the_published_verifier_agrees_where_it_is_installed():
    verifier = agreement.published()
    if verifier is None:
        pytest.skip("lm_eval is not installed; see tests/agreement/ifeval.py")
    try:
        rows = real_data.rows("ifeval")
    except real_data.Absent as error:
        pytest.skip(str(error))
    for row in rows[::10]:
        if not agreement.is_drawn(row):
            for response in responses(row, random.Random(row["id"]), 3):
                assert list(agreement.differences(verifier, row, response)) == []


def test_the_language_of_a_short_text_is_the_same_each_time():
    assert len({_linguistics.language("la see ok") for _ in range(40)}) == 1

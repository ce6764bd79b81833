"""reasoning-gym: the library's own scorers, kept from running the model's text."""

import json

import pytest

from oapl import RunConfig
from oapl.config.nested import with_records
from oapl.errors import InputError
from reward_server import settings
from reward_server.puzzles import inert, strict, tasks
from tests.support.judging import built, prompt, rollout


def entry(task, index=0, **options):
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    made = with_records(DATASETS[task][1], options)
    item = reasoning_gym.create_dataset(task, size=index + 1, seed=1, **made)[index]
    return json.loads(json.dumps(item))  # as it comes from a file


def judged(item, answer, *, level="landlock", reason="stop", wrap="<answer>{}</answer>", **options):
    return judged_row({"entry": item}, answer, level=level, reason=reason, wrap=wrap, **options)


def judged_row(row, answer, *, level="landlock", reason="stop", wrap="<answer>{}</answer>", **own):
    verifier = built("reasoning_gym", **own)
    verifier.start(level)
    question = prompt(row, {"reasoning_gym": 1.0})
    return verifier.verify(question, rollout(wrap.format(answer), reason))


@pytest.mark.parametrize(
    "task",
    [
        "chain_sum",
        "countdown",
        "string_insertion",
        "spiral_matrix",
        "n_queens",
        "binary_matrix",
        "polynomial_multiplication",
        "simple_integration",
        "puzzle24",
        "rearc",
    ],
)
def test_the_librarys_own_answer_is_accepted_and_another_is_not(task):
    item = entry(task)
    assert judged(item, item["answer"]).reward == 1.0
    assert judged(item, item["answer"] + " 1").reward < 1.0


def test_a_box_will_do_and_no_answer_will_not():
    item = entry("chain_sum")
    assert judged(item, item["answer"], wrap="\\boxed{{{}}}").kind == "accepted"
    assert judged(item, item["answer"], wrap="it is {}").kind == "malformed"


def test_an_answer_in_the_other_form_is_malformed_and_said_to_be_that():
    item = entry("chain_sum")
    boxed = judged(item, item["answer"], wrap="\\boxed{{{}}}", answer_in="tag")
    assert (boxed.kind, boxed.reward) == ("malformed", 0.0)
    assert boxed.detail == "no answer tag, but an answer in another form"
    tagged = judged(item, item["answer"], answer_in="boxed")
    assert tagged.detail == "no box, but an answer in another form"


def test_an_answer_needs_its_eos_unless_told_otherwise():
    item = entry("chain_sum")
    assert judged(item, item["answer"], reason="length").kind == "malformed"
    assert judged(item, item["answer"], reason="length", truncated="judge").kind == "accepted"


def test_rewards_are_continuous_and_consolation_can_be_floored():
    item = entry("countdown")
    assert judged(item, "1 + 1").reward == 0.05
    assert judged(item, "1 + 1", floor=0.1).reward == 0.0
    assert judged(item, "1 + 1", floor=0.1).kind == "wrong_answer"


@pytest.mark.parametrize(
    "payload",
    [
        "__import__('os').system('id')",
        "().__class__.__base__.__subclasses__()",
        "(lambda: 24)()",
        "[open('/tmp/x','w')]",
        "exec('x=1')",
        "1.real",
        "x.func(2)",
    ],
)
@pytest.mark.parametrize("task", sorted(inert.UNSAFE))
def test_answers_that_could_do_more_than_compute_never_reach_an_evaluating_scorer(task, payload):
    if task in inert.EVALUATES_LITERAL and payload in ("1.real", "x.func(2)"):
        payload += "[0]"
    assert not inert.is_inert(task, payload)


@pytest.mark.parametrize("task", ["countdown", "spiral_matrix"])
def test_a_payload_is_refused_and_does_nothing(task, tmp_path):
    target = tmp_path / "written"
    verdict = judged(entry(task), f"[open({str(target)!r}, 'w')]")
    assert (verdict.kind, verdict.reward) == ("malformed", 0.0)
    assert not target.exists()


@pytest.mark.parametrize("task", sorted(inert.UNSAFE))
def test_scorers_that_evaluate_are_refused_where_there_is_no_sandbox(task):
    item = {"question": "", "answer": "1", "metadata": {"source_dataset": task}}
    with pytest.raises(InputError, match="allow_unsafe = true"):
        judged(item, "1", level="none")


def test_the_risk_can_be_accepted():
    item = entry("countdown")
    assert judged(item, item["answer"], level="none", allow_unsafe=True).reward == 1.0


def test_an_answer_under_which_its_scorer_raises_is_malformed():
    """No verifier's error: the scorer gave the puzzle's own answer full marks."""
    verdict = judged(entry("prime_factorization"), "two times three")
    assert (verdict.kind, verdict.reward) == ("malformed", 0.0)
    assert verdict.detail.startswith("ValueError: ")


def test_long_answers_are_wrong_without_a_look():
    assert judged(entry("chain_sum"), "1" * 5000).detail == "longer than 4 kB"


@pytest.mark.parametrize("reference", [{}, {"entry": "x"}, {"entry": {"answer": "1"}}])
def test_a_prompt_without_an_entry_is_refused_by_name(reference):
    with pytest.raises(InputError, match="p:0@0 has no reasoning-gym entry"):
        built("reasoning_gym").verify(prompt(reference), rollout("1"))


def test_a_task_nobody_knows_is_refused_by_name():
    with pytest.raises(InputError, match="'chain_sums' is no reasoning-gym task"):
        judged({"metadata": {"source_dataset": "chain_sums"}}, "1")


SHORT = {"min_word_length": 3, "max_word_length": 3}
LETTERS = {"board_format_opts": {"alphabet": list("abcdefghij")}}


@pytest.mark.parametrize(("task", "options"), [("word_ladder", SHORT), ("arc_agi", LETTERS)])
@pytest.mark.parametrize("place", ["row", "text", "setting"])
def test_a_puzzle_is_scored_with_the_options_it_was_made_with(task, options, place):
    item = entry(task, **options)
    row = {"entry": item, "task": task}
    if place != "setting":
        row["options"] = json.dumps(options) if place == "text" else {**options, "unset": None}
    own = {"task_options": {task: options}} if place == "setting" else {}
    assert judged_row(row, item["answer"], **own).reward == 1.0


def test_a_puzzle_whose_own_answer_its_scorer_refuses_has_no_reward_and_says_why():
    item = entry("word_ladder", **SHORT)
    for row, message in (
        ({"entry": item}, "own answer .* no full marks .KeyError: 3.* column `options`"),
        ({"entry": item, "options": {"letters": 3}}, "refuses the options.*letters"),
    ):
        with pytest.raises(InputError, match=message):
            judged_row(row, item["answer"])


@pytest.mark.parametrize(
    "row",
    [
        lambda item: {"entry": item},
        lambda item: {"entry": json.dumps(item)},
        lambda item: {"entry": {**item, "metadata": json.dumps(item["metadata"])}},
        lambda item: {"metadata": item["metadata"], "answer": item["answer"]},
        lambda item: {"metadata": json.dumps(item["metadata"]), "answer": item["answer"]},
        lambda item: {"metadata": {"x": 1}, "answer": item["answer"], "task": "chain_sum"},
        lambda item: {"metadata": {"x": 1}, "answer": item["answer"], "dataset": "chain_sum"},
        lambda item: {"entry": item, "task": "composite"},
        lambda item: {"entry": item, "dataset": "some/set"},
    ],
)
def test_a_row_may_hold_its_entry_or_the_parts_of_it(row):
    item = entry("chain_sum")
    assert judged_row(row(item), item["answer"]).reward == 1.0
    assert judged_row(row(item), "no number").reward == 0.0


WRONG = [
    ("game_of_life_halting", "banana", 1.0),
    ("game_of_life_halting", "0", 1.0),
    ("puzzle24", "6+6+6+6", 1.0),
    ("coin_flip", "0", 1.0),
    ("gsm_symbolic", "-{own}", 1.0),
    ("gsm_symbolic", "{own} or 7", 1.0),
    ("gsm_symbolic", "{own}, or maybe 7", 1.0),
    ("chain_sum", "1{own}", None),
    ("chain_sum", "{own}{own}", 0.5),
    ("base_conversion", "{own} or 7", None),
    ("basic_arithmetic", "-{own}", None),
    ("knights_knaves", "{own} or 7", 1.0),
    ("kakurasu", "{own} or 7", 1.0),
    ("sokoban", "{own} or 7", 1.0),
    ("quantum_lock", "{own}. 7", 1.0),
    ("letter_jumble", "{own} x", None),
    ("time_intervals", "-{own}", None),
    ("countdown", "1 + 1", 0.05),
    ("polynomial_equations", "0", 0.5),
]


@pytest.mark.parametrize(("task", "wrong", "paid"), WRONG)
def test_strict_pays_no_wrong_answer_and_the_right_one(task, wrong, paid):
    item = entry(task)
    answer = wrong.format(own=item["answer"])
    given = judged(item, answer).reward
    assert given > 0 if paid is None else given == paid, "the library's own scorer"
    strictly = judged(item, answer, strict=True)
    assert (strictly.kind, strictly.reward) == ("wrong_answer", 0.0)
    assert judged(item, item["answer"], strict=True).kind == "accepted"


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("game_of_life_halting", str.lower),
        ("gsm_symbolic", lambda own: f"{own}.0"),
        ("gsm_symbolic", lambda own: f"${own}"),
        ("letter_jumble", str.upper),
        ("knights_knaves", lambda own: " and ".join(own.rstrip(".").split(", and ")[::-1])),
        ("puzzle24", lambda own: f"({own})"),
        ("quantum_lock", lambda own: own.replace(" → ", ",")),
        ("sokoban", str.lower),
    ],
)
def test_strict_takes_a_right_answer_in_other_words_where_the_library_does(task, change):
    item = entry(task)
    answer = change(item["answer"])
    if judged(item, answer).reward == 1.0:
        assert judged(item, answer, strict=True).reward == 1.0


@pytest.mark.parametrize(
    ("answer", "own", "is_right"),
    [
        ("1/2 or 7", "1/2", False),
        ("either 1/2 or 7", "1/2", False),
        ("Maybe 1/2", "1/2", False),
        ("1/2", "1/2", True),
        ("more for Orwell", "x", True),
        ("A or B", "A or B", True),
    ],
)
def test_strict_takes_no_hedge_that_the_library_paid_in_full(answer, own, is_right):
    assert strict.is_right("fraction_simplification", answer, {"answer": own}, 1.0) == is_right


def test_every_task_pays_its_own_answer_and_under_strict_no_wrong_one():
    """The table that `make puzzles` writes: `make agreement` compares it with the library."""
    table = tasks.table()
    assert len(table) == 105
    assert {task.cells["own"] for task in table.values()} == {"1", ""}
    assert {task.cells["strict"] for task in table.values()} == {"0"}


def test_a_floor_beside_strict_is_refused():
    run = {"verifiers": {"reasoning_gym": 1.0}}
    options = {"reasoning_gym": {"strict": True, "floor": 0.1}}
    with pytest.raises(InputError, match=r"floor = 0.1 changes nothing where strict"):
        settings.check(RunConfig(reward={**run, "options": options}))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"entry": {"metadata": {}}, "task": "puzzle24"}, "puzzle24 1;"),
        ({"metadata": '{"source_dataset": "chain_sum"}'}, "chain_sum 0.8;"),
        ({"entry": {"metadata": {"source_dataset": "n_queens"}}}, ""),
        ({"answer": "1"}, ""),
        ({"task": "of a later version"}, ""),
    ],
)
def test_a_run_that_uses_a_task_that_pays_wrong_answers_is_warned(row, named):
    run = {"verifiers": {"reasoning_gym": 1.0, "math": 0.0}}
    asked = [prompt(row, {"reasoning_gym": 1.0}), prompt({"task": "coin_flip"}, {"math": 1.0})]
    notes = settings.notes(RunConfig(reward=run), asked)
    assert [named in note and "strict = true" in note for note in notes] == [True] * bool(named)
    strictly = {**run, "options": {"reasoning_gym": {"strict": True}}}
    assert settings.notes(RunConfig(reward=strictly), asked) == []


def test_warming_makes_every_scorer_so_that_no_response_waits_for_one(monkeypatch):
    import reasoning_gym

    verifier = built("reasoning_gym")
    verifier.warm()
    item = entry("arc_agi")
    monkeypatch.setattr(reasoning_gym, "create_dataset", None)
    verdict = verifier.verify(
        prompt({"entry": item}), rollout(f"<answer>{item['answer']}</answer>")
    )
    assert verdict.reward == 1.0

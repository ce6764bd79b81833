"""reasoning-gym: the library's own scorers, kept from running the model's text."""

import json

import pytest

from oapl.errors import InputError
from reward_server.verifiers import reasoning_gym as gym
from tests.support.judging import built, prompt, rollout


def entry(task, index=0):
    import reasoning_gym

    item = reasoning_gym.create_dataset(task, size=index + 1, seed=1)[index]
    return json.loads(json.dumps(item))  # as it comes from a file


def judged(item, answer, *, level="landlock", reason="stop", wrap="<answer>{}</answer>", **options):
    verifier = built("reasoning_gym", **options)
    verifier.start(level)
    question = prompt({"entry": item}, {"reasoning_gym": 1.0})
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
    assert boxed.detail == "no answer tag, but an answer in the other form"
    tagged = judged(item, item["answer"], answer_in="boxed")
    assert tagged.detail == "no box, but an answer in the other form"


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
@pytest.mark.parametrize("task", sorted(gym.UNSAFE))
def test_answers_that_could_do_more_than_compute_never_reach_an_evaluating_scorer(task, payload):
    if task in gym.EVALUATES_LITERAL and payload in ("1.real", "x.func(2)"):
        payload += "[0]"
    assert not gym.is_inert(task, payload)


@pytest.mark.parametrize("task", ["countdown", "spiral_matrix"])
def test_a_payload_is_refused_and_does_nothing(task, tmp_path):
    target = tmp_path / "written"
    verdict = judged(entry(task), f"[open({str(target)!r}, 'w')]")
    assert (verdict.kind, verdict.reward) == ("malformed", 0.0)
    assert not target.exists()


@pytest.mark.parametrize("task", sorted(gym.UNSAFE))
def test_scorers_that_evaluate_are_refused_where_there_is_no_sandbox(task):
    item = {"question": "", "answer": "1", "metadata": {"source_dataset": task}}
    with pytest.raises(InputError, match="allow_unsafe = true"):
        judged(item, "1", level="none")


def test_the_risk_can_be_accepted():
    item = entry("countdown")
    assert judged(item, item["answer"], level="none", allow_unsafe=True).reward == 1.0


def test_a_scorer_that_raises_on_a_bad_answer_gives_0_and_is_counted_as_that():
    verdict = judged(entry("prime_factorization"), "two times three")
    assert (verdict.kind, verdict.reward) == ("error", 0.0)


def test_long_answers_are_wrong_without_a_look():
    assert judged(entry("chain_sum"), "1" * 5000).detail == "longer than 4 kB"


@pytest.mark.parametrize("reference", [{}, {"entry": "x"}, {"entry": {"answer": "1"}}])
def test_a_prompt_without_an_entry_is_refused_by_name(reference):
    with pytest.raises(InputError, match="p:0@0 has no reasoning-gym entry"):
        built("reasoning_gym").verify(prompt(reference), rollout("1"))


def test_a_task_nobody_knows_is_refused_by_name():
    with pytest.raises(InputError, match="'chain_sums' is no reasoning-gym task"):
        judged({"metadata": {"source_dataset": "chain_sums"}}, "1")

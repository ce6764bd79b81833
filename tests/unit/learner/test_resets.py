"""When the reference is set anew."""

import pytest

from learner.resets import REQUEST, Resets
from oapl.config.objective import History
from oapl.config.sections import ReferenceSection


def resets(folder, **rules):
    return Resets(ReferenceSection(**rules), folder)


def test_never_unless_asked(tmp_path):
    quiet = resets(tmp_path)
    quiet.saw_step({"policy/reference_kl": 9.0})
    for _ in range(9):
        quiet.saw_evaluation({"eval/a/mean@8": 0.1})
    assert quiet.due(10**6) == ""


def test_by_schedule_from_the_last_reset(tmp_path):
    rules = resets(tmp_path, reset_every=10)
    assert [bool(rules.due(step)) for step in (0, 8, 12)] == [False, False, True]
    rules.done(12)
    assert [bool(rules.due(step)) for step in (20, 22)] == [False, True]


def test_by_evaluations_that_are_no_better(tmp_path):
    rules = resets(tmp_path, patience=2)
    for score in (0.3, 0.5, 0.5):
        rules.saw_evaluation({"eval/a/mean@8": score, "eval/a/mean@8_se": 9.0, "eval/a/greedy": 1})
        assert rules.due(1) == ""
    rules.saw_evaluation({"eval/a/mean@8": 0.4})
    assert rules.due(1) == "2 evaluations no better than 0.500"
    rules.done(1)
    rules.saw_evaluation({"eval/a/mean@8": 0.4})
    assert rules.due(2) == "", "the best is that since the reset"


def test_by_several_sets_their_mean_counts(tmp_path):
    rules = resets(tmp_path, patience=1)
    rules.saw_evaluation({"eval/a/mean@8": 0.2, "eval/b/mean@4": 0.6})
    rules.saw_evaluation({"eval/a/mean@8": 0.5, "eval/b/mean@4": 0.4})
    assert rules.due(1) == ""


def test_by_a_kl_above_its_bound(tmp_path):
    rules = resets(tmp_path, max_kl=0.1)
    rules.saw_step({"policy/reference_kl": 0.1})
    assert rules.due(1) == ""
    rules.saw_step({"policy/reference_kl": 0.2})
    assert "0.2000 above reference.max_kl = 0.1" in rules.due(1)
    rules.done(1)
    assert rules.due(1) == ""


def test_by_hand_once(tmp_path):
    rules = resets(tmp_path)
    (tmp_path / REQUEST).touch()
    assert rules.due(3) == "asked for by hand"
    rules.done(3)
    assert rules.due(3) == ""


def test_a_reincarnation_is_due_once_after_t_iterations_and_is_no_other_reset(tmp_path):
    history = History(share=0.4, iterations=2, until=5)
    rules = Resets(ReferenceSection(reset_every=12), tmp_path, history, steps_per_take=4)
    due = [bool(rules.reincarnation(step)) for step in (0, 16, 20, 24)]
    assert due == [False, False, True, True]
    rules.done(12)
    assert rules.reincarnation(20) == "reincarnation after 5 iterations", "not that reset"
    rules.done(20)
    assert rules.reincarnation(24) == ""
    again = Resets(ReferenceSection(reset_every=12), tmp_path, history, steps_per_take=4)
    again.restore(rules.state())
    assert again.reincarnation(24) == ""


@pytest.mark.parametrize("until", [None, 0])
def test_without_an_end_of_history_nothing_is_reborn(tmp_path, until):
    history = None if until is None else History(share=0.4, iterations=2, until=until)
    assert Resets(ReferenceSection(), tmp_path, history, 4).reincarnation(10**6) == ""


@pytest.mark.parametrize("rules", [{"reset_every": 10}, {"patience": 2}, {"max_kl": 0.1}])
def test_a_resumed_run_resets_when_it_would_have(tmp_path, rules):
    one, other = resets(tmp_path, **rules), resets(tmp_path, **rules)
    one.done(4)
    one.saw_step({"policy/reference_kl": 0.2})
    for score in (0.5, 0.4, 0.4):
        one.saw_evaluation({"eval/a/mean@8": score})
    other.restore(one.state())
    assert [one.due(step) for step in range(20)] == [other.due(step) for step in range(20)]
    assert any(one.due(step) for step in range(20))

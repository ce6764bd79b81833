"""When a stage ends before its steps are made."""

import pytest

from learner.moving_on import REQUEST, MovingOn

SCORE = "eval/a/mean@8"


@pytest.fixture
def ends():
    return []


def moving(folder, ends, patience=0, stage="second"):
    made = MovingOn(stage, patience, folder)
    made.begin(lambda: ends.append(1))
    return made


def test_it_ends_once_when_evaluations_stand_still(tmp_path, ends):
    stage = moving(tmp_path, ends, patience=2)
    for score in (0.3, 0.5, 0.5):
        stage.saw_evaluation({SCORE: score})
        stage.look()
        assert not stage.cause
    stage.saw_evaluation({SCORE: 0.4})
    stage.look()
    stage.look()
    assert stage.cause == "2 evaluations no better than 0.500"
    assert ends == [1]


def test_only_evaluations_in_a_row_count(tmp_path, ends):
    stage = moving(tmp_path, ends, patience=2)
    for score in (0.5, 0.4, 0.6, 0.5, 0.7, 0.7):
        stage.saw_evaluation({SCORE: score})
        stage.look()
    assert not stage.cause


def test_without_patience_it_ends_by_hand_alone_and_only_the_stage_that_was_named(tmp_path, ends):
    stage = moving(tmp_path, ends)
    for _ in range(9):
        stage.saw_evaluation({SCORE: 0.1})
    (tmp_path / REQUEST).write_text("first\n")  # a request that came too late for that one
    stage.look()
    assert (stage.cause, ends) == ("", [])
    (tmp_path / REQUEST).write_text("second\n")
    stage.look()
    assert (stage.cause, ends) == ("asked for by hand", [1])


def test_a_resumed_stage_ends_at_once_where_it_was_about_to(tmp_path, ends):
    stage = moving(tmp_path, [], patience=1)
    for score in (0.5, 0.5):
        stage.saw_evaluation({SCORE: score})
    again = MovingOn("second", 1, tmp_path)
    again.restore(stage.state())
    assert not ends
    again.begin(lambda: ends.append(1))
    assert ends == [1]
    assert stage.state()["name"] == "second"

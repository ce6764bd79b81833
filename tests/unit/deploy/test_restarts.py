"""How often what died is started again, by policy and by attempt."""

import math

import pytest

from deploy.run import restarts
from deploy.run.attempts import Attempts
from deploy.run.restarts import Failures
from oapl.config import RunConfig
from oapl.config.restarts import (
    PausingPolicy,
    RestartsSection,
    RewardServerRestarts,
    WholeRestarts,
    WorkerRestarts,
)
from oapl.config.toml import load_config
from oapl.errors import (
    DeadlineError,
    DiedError,
    HeadError,
    NodeError,
    RankError,
    ReplayError,
    in_one_line,
)
from oapl.tracking.sink import Sink
from oapl.tracking.status import RESTART


class Clock:
    def __init__(self):
        self.s = 1000.0

    def __call__(self):
        return self.s


def failures(clock=None, **policy):
    return Failures(PausingPolicy(**policy), "rank", clock or Clock())


def test_a_first_failure_waits_for_nothing_and_later_ones_twice_as_long_each_up_to_a_bound():
    counted, pauses = failures(max_restarts=9), []
    for _ in range(8):
        counted.add()
        pauses.append(counted.pause_s)
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    for _ in range(5000):
        counted.add()
    assert counted.pause_s == 30


def test_a_long_life_forgives_the_failures_before_it_and_a_short_one_adds_to_them():
    counted = failures(max_restarts=1, forgiven_after_s=300.0)
    counted.add(1.0)
    counted.add(300.0)
    assert (counted.number, counted.are_too_many) == (2, True)
    counted.add(300.1)
    assert (counted.number, counted.are_too_many) == (1, False)


def test_without_forgiveness_no_life_is_long_enough():
    counted = failures(max_restarts=1)
    for _ in range(2):
        counted.add(1e9)
    assert counted.are_too_many


def test_a_failure_counts_for_as_long_as_its_window():
    clock = Clock()
    counted = failures(clock, max_restarts=1, window_s=60.0)
    counted.add()
    clock.s += 59.0
    counted.add()
    assert counted.are_too_many
    clock.s += 2.0
    assert (counted.number, counted.left) == (1, 0)


@pytest.mark.parametrize("allowed", [0, 1, 10])
def test_as_many_failures_as_are_allowed_are_followed_by_a_start_and_the_next_is_not(allowed: int):
    counted = failures(max_restarts=allowed)
    for _ in range(allowed):
        counted.add()
    assert not counted.are_too_many
    counted.add()
    assert counted.are_too_many


def test_each_part_has_one_policy_and_an_override_of_a_key_leaves_the_others_as_they_were():
    given = load_config(None, ["restarts.worker.max_restarts=7", "restarts.rank.window_s=60.0"])
    assert given.restarts == RestartsSection(
        worker=WorkerRestarts(max_restarts=7), rank=WholeRestarts(window_s=60.0)
    )
    assert given.restarts.worker.forgiven_after_s == 300.0
    assert given.restarts.reward_server == RewardServerRestarts()
    of_the_run = restarts.of_the_run(given)
    assert of_the_run["rank"].policy.window_s == 60.0
    assert of_the_run["replay"].setting == "restarts.replay.max_restarts"


def test_in_one_process_nothing_is_started_again():
    counted = restarts.of_the_run(RunConfig(cluster={"mode": "local"}))["rank"]
    counted.add()
    assert counted.are_too_many


class Told(Sink):
    def __init__(self):
        self.phases, self.messages = [], []

    def phase(self, name):
        self.phases.append(name)

    def message(self, text):
        self.messages.append(text)


def attempts(allowed, resume=None):
    parts = {part: Failures(WholeRestarts(max_restarts=allowed), part) for part in PARTS}
    return Attempts(restarts=parts, resume=resume)


PARTS = ("rank", "replay")


def test_what_is_lost_is_followed_by_another_attempt_as_often_as_its_own_policy_allows(tmp_path):
    told, tried = Told(), attempts(2)
    assert tried.step == 0
    assert tried.take_another(RankError("learner rank 1 of 2 died"), told)
    tried.resume = tmp_path / "step-40"
    assert tried.step == 40
    assert tried.take_another(NodeError("Ray's raylet has ended"), told)
    assert tried.pause_s == 1.0, "a second failure of one part waits"
    assert tried.take_another(ReplayError("replay died"), told)
    assert tried.pause_s == 0.0
    assert told.messages == [
        "learner rank 1 of 2 died; starting all processes again from the beginning, "
        "1 restarts left (restarts.rank.max_restarts)",
        "Ray's raylet has ended; starting all processes again from step-40, "
        "0 restarts left (restarts.rank.max_restarts)",
        "replay died; starting all processes again from step-40, "
        "1 restarts left (restarts.replay.max_restarts)",
    ]
    assert not tried.take_another(RankError("learner rank 0 of 2 died"), told)
    assert told.phases == [RESTART] * 3
    assert len(told.messages) == 3
    assert tried.uncounted == {"rank": 2, "node": 1, "replay": 1}


def raised(step, cause):
    error = RankError(f"learner rank 0 of 1 failed after step {step}")
    error.__cause__ = cause
    return error


def test_what_a_rank_raises_again_at_the_same_step_is_not_tried_a_third_time():
    told, tried = Told(), attempts(9)
    no_room = MemoryError("no room")
    assert tried.take_another(raised(8, no_room), told)
    assert tried.take_another(raised(9, no_room), told), "it came further"
    last = raised(9, no_room)
    assert not tried.take_another(last, told)
    assert "another start would meet it again" in in_one_line(last)
    for _ in range(3):
        assert tried.take_another(raised(9, DiedError("trainer-0 died")), told), "a kill may stop"


def test_a_replay_buffer_that_dies_again_is_started_again_as_often_as_its_policy_allows():
    """Ray's own error is the cause of what is told of it, and the same each time."""
    told, tried = Told(), attempts(3)
    for _ in range(3):
        died = ReplayError("replay died when it was asked for next_prompts")
        died.__cause__ = RuntimeError("The actor died unexpectedly before finishing this task.")
        assert tried.take_another(died, told)
    assert not tried.take_another(ReplayError("replay died when it was asked for take"), told)


@pytest.mark.parametrize("why", [DeadlineError("waited 30 s for a batch"), HeadError("no head")])
def test_what_no_checkpoint_makes_good_is_followed_by_nothing(why):
    told, tried = Told(), attempts(2)
    assert not tried.take_another(why, told)
    assert (tried.failures, told.messages, told.phases) == (0, [], [])


def test_a_run_ends_by_the_clock_of_its_first_attempt():
    tried = attempts(1)
    assert tried.ends_at(RunConfig(run={"max_hours": 2.0})) == tried.began + 7200
    assert tried.ends_at(RunConfig()) == math.inf


def test_restarts_that_go_back_to_the_same_checkpoint_are_counted_together(tmp_path):
    """The line that counted the first is set aside when the second goes back behind it."""
    tried, told = attempts(9), Told()
    for expected in (1, 2):
        tried.take_another(RankError("died"), told)
        tried.saved(None)
        assert tried.uncounted == {"rank": expected}
    tried.saved(tmp_path / "step-8")
    assert (tried.uncounted, tried.resume) == ({}, tmp_path / "step-8")
    tried.take_another(RankError("died"), told)
    tried.saved(tmp_path / "step-8")
    assert tried.uncounted == {"rank": 1}


@pytest.mark.parametrize(
    ("setting", "resume", "expected"),
    [
        ("auto", None, "the same command begins anew: there is no checkpoint yet"),
        ("auto", "step-8", "the same command resumes from checkpoints/step-8"),
        ("never", "step-8", "the same command without checkpoint.resume resumes from "),
        ("old/step-4", "step-8", "the same command without checkpoint.resume resumes from "),
    ],
)
def test_who_fails_says_what_the_same_command_does(tmp_path, setting, resume, expected):
    tried = attempts(0, resume and tmp_path / "checkpoints" / resume)
    tried.setting = setting
    assert tried.next.startswith(expected)


def test_a_long_attempt_forgives_the_losses_before_it_where_the_policy_says_so():
    policy = WholeRestarts(max_restarts=1, forgiven_after_s=3600.0)
    tried = Attempts(restarts={"rank": Failures(policy, "rank")}, resume=None)
    for lived_s in (10.0, 3601.0, 3601.0):
        assert tried.take_another(RankError("learner rank 0 of 1 died"), Told(), lived_s)
    assert not tried.take_another(RankError("learner rank 0 of 1 died"), Told(), 3599.0)

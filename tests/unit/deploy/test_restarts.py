"""How often what died is started again, by policy and by attempt."""

import math

import pytest

from deploy.run import restarts
from deploy.run.attempts import Attempts
from deploy.run.restarts import RestartPolicy
from oapl.config import RunConfig
from oapl.errors import DeadlineError, RankError
from oapl.tracking.sink import Sink
from oapl.tracking.status import RESTART

POLICY = RestartPolicy(
    max_restarts=3, setting="some.key", forgiven_after_s=300.0, longest_pause_s=30.0
)


def test_a_first_death_waits_for_nothing_and_later_ones_twice_as_long_each_up_to_a_bound():
    assert [POLICY.pause_s(deaths) for deaths in range(9)] == [0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert POLICY.pause_s(5000) == 30


def test_a_long_life_ends_the_row_of_deaths_and_a_short_one_adds_to_it():
    assert POLICY.deaths_after(3, 300.0) == 4
    assert POLICY.deaths_after(3, 300.1) == 1


@pytest.mark.parametrize("allowed", [0, 1, 10])
def test_as_many_deaths_as_are_allowed_are_followed_by_a_start_and_the_next_is_not(allowed: int):
    policy = RestartPolicy(max_restarts=allowed, setting="some.key")
    assert [policy.gives_up(deaths) for deaths in (allowed, allowed + 1)] == [False, True]


def test_each_policy_reads_its_own_setting():
    config = RunConfig(cluster={"max_worker_restarts": 7}, run={"max_restarts": 2})
    worker, run = restarts.of_a_worker(config), restarts.of_the_run(config)
    assert (worker.max_restarts, worker.setting) == (7, "cluster.max_worker_restarts")
    assert (run.max_restarts, run.setting) == (2, "run.max_restarts")
    assert worker.deaths_after(7, 301.0) == 1, "five minutes of work forgive"
    assert run.deaths_after(2, 1e9) == 3, "nothing forgives the run's"
    assert run.pause_s(9) == 0


class Told(Sink):
    def __init__(self):
        self.phases, self.messages = [], []

    def phase(self, name):
        self.phases.append(name)

    def message(self, text):
        self.messages.append(text)


def attempts(allowed, resume=None):
    return Attempts(policy=RestartPolicy(max_restarts=allowed, setting="some.key"), resume=resume)


def test_a_failed_rank_is_followed_by_another_attempt_as_often_as_allowed(tmp_path):
    told, tried = Told(), attempts(2)
    assert tried.step == 0
    assert tried.take_another(RankError("learner rank 1 of 2 died"), told)
    tried.resume = tmp_path / "step-40"
    assert tried.step == 40
    assert tried.take_another(RankError("learner rank 0 of 2 died"), told)
    assert told.messages == [
        "learner rank 1 of 2 died; starting all processes again from the beginning, "
        "1 restarts left (some.key)",
        "learner rank 0 of 2 died; starting all processes again from step-40, "
        "0 restarts left (some.key)",
    ]
    assert not tried.take_another(RankError("learner rank 0 of 2 died"), told)
    assert told.phases == [RESTART] * 2
    assert len(told.messages) == 2


def test_what_is_no_rank_s_failure_is_followed_by_nothing():
    told, tried = Told(), attempts(2)
    assert not tried.take_another(DeadlineError("waited 30 s for a batch"), told)
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
        assert tried.uncounted == expected
    tried.saved(tmp_path / "step-8")
    assert (tried.uncounted, tried.resume) == (0, tmp_path / "step-8")
    tried.take_another(RankError("died"), told)
    tried.saved(tmp_path / "step-8")
    assert tried.uncounted == 1


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

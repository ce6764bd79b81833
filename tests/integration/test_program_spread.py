"""A whole run over several ranks and engines: real Ray, vLLM, DeepSpeed, killed and resumed."""

import signal

import pytest

from oapl.tracking import rollouts
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("program"))


NEVER = "restarts.rank.max_restarts=0"
TWO_RANKS = ("learner.num_ranks=2", "learner.zero_stage=3", "tracking.store_groups=all")


def test_two_ranks_go_on_after_the_death_of_one(recipe):
    run = Run(recipe, "ranks", *TWO_RANKS, "run.max_steps=14", "restarts.rank.max_restarts=1")
    run.wait_for_step(6)
    run.kill(signal.SIGKILL, "trainer-1")
    code, output = run.end()
    assert code == 0, output
    assert "learner rank 1 of 2 died" in output
    assert "starting all processes again from step-" in output
    assert run.steps() == list(range(1, 15))
    assert sum(run.metrics("faults/rank_restarts")) == 1
    assert max(run.metrics("weights/probe")) < 1.001
    trained = read_rollouts(run.folder)
    assert len(trained) == 14 * 4 * 4
    assert len(set(trained)) == 14 * 4, "every draw was trained on once"


@pytest.mark.by_hand
def test_the_death_of_a_rank_is_named_long_before_the_deadline_of_a_step(recipe):
    """Which is longer than the test may take."""
    run = Run(recipe, "named", *TWO_RANKS, "run.max_steps=400", "sync.timeout_s=7200", NEVER)
    run.wait_for_step(4)
    run.kill(signal.SIGKILL, "trainer-0")
    code, output = run.end()
    assert code == 1, output
    assert "failed: RankError: learner rank 0 of 2 died" in output
    assert "Traceback" not in output


def read_rollouts(folder):
    """Prompt ids of the rollouts that the run kept, in the order of steps."""
    return [row["id"] for row in rollouts.read(folder)]


def test_a_second_engine_just_works(recipe):
    """And takes the weights by broadcast, with the first or in a round of its own. Both drain."""
    two = ("rollout.num_engines=2", "sync.transport=collective", "rollout.max_tokens=48")
    kept = ("replay.max_versions=2", "replay.surplus=1.0", "rollout.max_groups_in_flight=4")
    run = Run(recipe, "two", *two, *kept, "sync.in_flight=drain", "run.max_steps=16")
    code, output = run.end()
    assert code == 0, output
    assert run.steps() == list(range(1, 17))
    assert (run.folder / "logs" / "worker-1.0.log").is_file()
    for wasted in ("rollout/aborted_groups", "replay/cleared_groups", "replay/wasted_tokens"):
        assert not any(run.metrics(wasted)), wasted
    assert not any(run.metrics("rollout/aborted") + run.metrics("faults/cut_drains"))
    lags = run.metrics("replay/lag_max")
    assert lags[:4] == [0, 1, 2, 3]
    assert 4 <= max(lags) <= 7, "groups of the version before were trained on, none older"
    assert max(run.metrics("weights/probe")) < 1.001

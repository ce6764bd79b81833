"""`oapl submit` on a cluster of two nodes: learner on one, rollouts on the other."""

import pytest

from tests.support.clusters import Cluster, make_project
from tests.support.run_files import steps

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as started:
        yield started


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def test_a_submitted_run_is_followed_and_lies_where_the_submitter_said(cluster, project):
    """The custom resources lie on different nodes, so learner and rollouts do."""
    job = cluster.oapl(project, "submit", "recipe.toml", "--address", cluster.server)
    code, output = job.end()
    assert code == 0, output
    run = project / "runs" / "job"
    assert steps(run) == [1, 2, 3, 4]
    assert (run / "model" / "model.safetensors").is_file()
    assert "step 4" in output, "progress is readable in the log"
    assert f"run folder: {run}" in output


def test_a_submitted_run_with_bad_input_ends_with_its_own_exit_code(cluster, project):
    words = ("recipe.toml", "--address", cluster.server, "run.name=bad", "model.path=/nowhere")
    code, output = cluster.oapl(project, "submit", *words).end()
    assert code == 2, output
    assert "model.path = '/nowhere'" in output
    assert not (project / "runs" / "bad").exists()

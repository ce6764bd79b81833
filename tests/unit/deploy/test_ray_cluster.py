"""Addresses that do not answer, what a node says of itself, run folders under a job."""

import importlib.metadata
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from ray import exceptions as ray_exceptions

from deploy.checks import places
from deploy.processes import ray_cluster
from deploy.processes.nodes import Facts, Node
from oapl.config import RunConfig
from oapl.errors import InputError, RankError


@pytest.mark.parametrize("is_open", [False, True], ids=["closed port", "mute server"])
def test_an_address_that_does_not_answer_is_refused_by_a_deadline(is_open):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if is_open:
            server.listen()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(InputError, match=f"{where}.*no Ray cluster answers there"):
            ray_cluster.check_answers(where, timeout_s=0.5)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("where", ["http://127.0.0.1:8265", "ray://head:10001"])
def test_a_job_servers_address_is_no_clusters(where):
    with pytest.raises(InputError, match=r"HOST:PORT.*oapl submit"):
        ray_cluster.join(where)


def test_the_configured_address_goes_before_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    assert RunConfig().ray_address == "there:1"
    assert RunConfig(cluster={"address": "here:1"}).ray_address == "here:1"
    monkeypatch.delenv("RAY_ADDRESS")
    assert RunConfig().ray_address == ""


def test_a_node_tells_its_versions_its_code_and_whether_it_sees_the_run_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_cluster, "SIGHT_TIMEOUT_S", 0.3)
    (tmp_path / "marker").touch()
    facts = ray_cluster.look(str(tmp_path / "marker"))
    assert facts.sees_folder
    assert facts.versions["ray"] == importlib.metadata.version("ray")
    assert "+" not in facts.versions["torch"], "a build's local part is its device's business"
    assert not ray_cluster.look(str(tmp_path / "other")).sees_folder
    assert not ray_cluster.look(str(tmp_path / "gone" / "marker")).sees_folder


def test_the_digest_of_the_code_changes_with_any_file(tmp_path):
    for package in ray_cluster.OWN:
        (tmp_path / package).mkdir()
    file = tmp_path / "learner" / "x.py"
    file.write_text("a = 1\n")
    first = ray_cluster._digest(tmp_path)
    file.write_text("a = 2\n")
    assert ray_cluster._digest(tmp_path) != first
    file.write_text("a = 1\n")
    assert ray_cluster._digest(tmp_path) == first


IDS = [digit * 56 for digit in "1234"]
"""As Ray makes them: 28 bytes in hexadecimal."""


class FakeRay:
    """Answers of nodes by id: facts, an error to raise, or None for a node that hangs."""

    def __init__(self, answers):
        import ray

        self.exceptions = ray.exceptions
        self._answers = answers
        self.cancelled = []

    def remote(self, **options):
        assert options["num_cpus"] == 0, "a busy node must answer, too"
        return lambda function: self

    def options(self, scheduling_strategy):
        assert not scheduling_strategy.soft, "no other node may answer for it"
        self._id = scheduling_strategy.node_id
        return type("Task", (), {"remote": lambda _, marker: self._id})()

    def wait(self, refs, num_returns, timeout):
        assert timeout == ray_cluster.SURVEY_TIMEOUT_S

    def get(self, ref, timeout):
        answer = self._answers[ref]
        if answer is None:
            raise self.exceptions.GetTimeoutError
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, ref, force):
        self.cancelled.append(ref)


def test_nodes_that_hang_or_lack_the_code_are_named_with_the_others(tmp_path):
    import ray

    here = ray_cluster.look(None)
    broken = ray.exceptions.RayError("Traceback\n  ...\nModuleNotFoundError: No module 'deploy'")
    old = Facts(versions={**here.versions, "torch": "1.0"}, code=here.code, place=here.place)
    fake = FakeRay(dict(zip(IDS, (here, None, broken, old), strict=True)))
    nodes = [Node(id=i, name=f"node-{i[0]}", total={"CPU": 1.0}) for i in IDS]
    with pytest.raises(InputError) as caught:
        ray_cluster.check_nodes(fake, nodes, tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3, lines
    assert "node-2 did not answer within" in lines[0]
    assert "node-3 cannot run oapl (ModuleNotFoundError: No module 'deploy')" in lines[1]
    assert "node-4 has torch 1.0" in lines[2]
    assert fake.cancelled == [IDS[1]]
    assert list(tmp_path.iterdir()) == [], "the marker is gone"
    ray_cluster.check_nodes(FakeRay({IDS[0]: here}), nodes[:1], tmp_path)


def test_a_relative_run_folder_under_a_job_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(ray_cluster.JOB, "{}")
    with pytest.raises(InputError, match=r"run.dir = 'runs': is relative.*oapl submit"):
        places.check_folder(RunConfig())
    places.check_folder(RunConfig(run={"dir": str(tmp_path)}))


def test_a_cluster_that_answers_and_cannot_be_joined_is_refused_by_a_deadline(monkeypatch):
    """Ray itself waits for ever for a node that is stopped."""
    ray = SimpleNamespace(init=lambda **_: threading.Event().wait(), exceptions=ray_exceptions)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_cluster, "check_answers", lambda where: None)
    with pytest.raises(InputError, match=r"there:1.* within 0\.05 s \(cluster\.start_timeout_s\)"):
        ray_cluster.join("there:1", timeout_s=0.05)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("nobody"), "no Ray cluster answers there"),
        (RuntimeError("Version mismatch"), r"could not join it \(Version mismatch\)"),
        (SystemExit(1), r"could not join it \(1\)"),
    ],
)
def test_what_ray_says_of_a_cluster_is_told_from_whatever_thread(monkeypatch, error, words):
    def init(**_):
        raise error

    ray = SimpleNamespace(init=init, exceptions=ray_exceptions)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_cluster, "check_answers", lambda where: None)
    with pytest.raises(InputError, match=words):
        ray_cluster.join("there:1", timeout_s=60)


async def test_a_head_that_does_not_answer_is_told_and_one_that_comes_back_is_not():
    def ray(ask):
        client = SimpleNamespace(internal_kv_get=ask)
        worker = SimpleNamespace(global_worker=SimpleNamespace(gcs_client=client))
        return SimpleNamespace(_private=SimpleNamespace(worker=worker))

    answers = [ConnectionError("UNAVAILABLE"), None]

    def late(*_, timeout):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer

    def never(*_, timeout):
        raise ConnectionError("UNAVAILABLE")

    assert await ray_cluster.lost_head(ray(late), 60) is None
    assert "has not answered for 0.05 s" in str(await ray_cluster.lost_head(ray(never), 0.05))
    mute = ray(lambda *_, timeout: threading.Event().wait())
    assert "has not answered for 0.05 s" in str(await ray_cluster.lost_head(mute, 0.05))


@pytest.mark.parametrize(
    ("kind", "is_told"), [("raylet", True), ("gcs_server", True), ("dashboard", False)]
)
def test_of_the_servers_that_were_started_here_the_lost_one_is_named(kind, is_told):
    dead = [(kind, SimpleNamespace(pid=7, returncode=-9))]
    node = SimpleNamespace(dead_processes=lambda: dead, get_logs_dir_path=lambda: "/tmp/logs")
    worker = SimpleNamespace(_global_node=node)
    lost = ray_cluster.lost_server(SimpleNamespace(_private=SimpleNamespace(worker=worker)))
    assert (lost is not None) == is_told
    if lost:
        assert isinstance(lost, RankError) == (kind == "raylet"), "all can be started again"
        told = str(lost)
        assert told.startswith(f"Ray's {kind} (process 7) on this machine has ended (exit code -9)")
        assert "/tmp/logs" in told

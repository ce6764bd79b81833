"""How Ray's servers are started: patiently, and out of reach of signals to our process group."""

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.processes.ray_cluster import STARTS, start_local_ray
from deploy.processes.ray_servers import apart, ended, few, patient


class Registry:
    """Ray's question for a new node, which registers at the so manieth time."""

    def __init__(self, times):
        self.left = times

    def get_node(self, address, id):
        self.left -= 1
        if self.left > 0:
            raise RuntimeError(f"no node {id} at {address}")
        return {"labels": {}}


def test_a_node_may_take_as_long_to_register_as_processes_may_take_to_start():
    slow = Registry(5)
    asked = slow.get_node
    with patient(slow, timeout_s=60):
        assert slow.get_node("here", id="x") == {"labels": {}}
    assert slow.get_node == asked
    never = Registry(9**9)
    with patient(never, timeout_s=0.1), pytest.raises(RuntimeError, match="no node x"):
        never.get_node("here", id="x")


def test_nobody_waits_for_a_node_whose_server_has_ended():
    over = subprocess.Popen([sys.executable, "-c", "raise SystemExit(6)"])
    over.wait(60)
    never = Registry(9**9)
    began = time.monotonic()
    with patient(never, 600, [over]), pytest.raises(RuntimeError, match="no node x"):
        never.get_node("here", id="x")
    assert time.monotonic() - began < 60
    assert ended([over]) == [f"{Path(sys.executable).name} (exit code 6)"]


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_ray_whose_server_ends_as_it_starts_is_started_again_twice(monkeypatch, caplog, deaths):
    """As the raylet does on a machine on which its agents are slow."""
    import ray
    from ray._private import services

    left, others = [6] * deaths, []

    def init(**_):
        others.append(services.ConsolePopen(["sleep", "60"]))
        if left:
            services.ConsolePopen([sys.executable, "-c", f"raise SystemExit({left.pop()})"]).wait()
            raise RuntimeError("The current node timed out during startup")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(services, "ConsolePopen", subprocess.Popen)
    try:
        if deaths < STARTS:
            assert start_local_ray(1) is ray
        else:
            with pytest.raises(RuntimeError, match="timed out during startup"):
                start_local_ray(1)
        assert [one.poll() is None for one in others] == [False, False, deaths < STARTS]
        assert len([one for one in caplog.messages if "(exit code 6) ended as it" in one]) == 2
    finally:
        for one in others:
            one.kill()


def test_servers_stand_in_sessions_of_their_own_and_other_processes_do_not():
    services = SimpleNamespace(ConsolePopen=subprocess.Popen)
    tell = [sys.executable, "-c", "import os; print(os.getsid(0), os.getpgrp(), os.getpid())"]

    def started():
        process = services.ConsolePopen(tell, stdout=subprocess.PIPE, text=True)
        return list(map(int, process.communicate(timeout=60)[0].split()))

    with apart(services):
        session, group, pid = started()
    assert session == group == pid
    assert started()[:2] == [os.getsid(0), os.getpgrp()]


def test_what_a_run_of_its_own_never_asks_is_not_started():
    """And Ray asks for each of them by the names that are replaced."""
    from ray._private import node, parameter, services, worker

    with few(services, parameter):
        assert services.start_api_server(True) == ("", None)
        params = parameter.RayParams(num_cpus=1)
    assert params.no_monitor
    assert not params.include_log_monitor
    assert not parameter.RayParams(num_cpus=1).no_monitor
    assert "start_api_server" in node.Node.start_api_server.__code__.co_names
    assert "RayParams" in inspect.unwrap(worker.init).__code__.co_names


def test_ray_starts_its_servers_by_what_is_replaced():
    """Else `apart` would do nothing, in silence."""
    from ray._private import services

    assert issubclass(services.ConsolePopen, subprocess.Popen)
    assert "ConsolePopen" in services.start_ray_process.__code__.co_names
    assert "get_node" in dir(services)

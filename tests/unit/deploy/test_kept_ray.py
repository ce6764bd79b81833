"""A Ray that is kept over the stages of a run: started once, ended once, never used when dead."""

from types import SimpleNamespace

import pytest

from deploy.processes import kept_ray, on_ray, ray_cluster
from deploy.processes.nodes import Demand, Node
from oapl.config import RunConfig
from oapl.errors import InputError, NodeError


@pytest.fixture
def rays(monkeypatch):
    """Every Ray that is started; it says whether it runs and whether a server of it is lost."""
    started = []

    def start(num_cpus, object_store_bytes, timeout_s):
        ray = SimpleNamespace(store=object_store_bytes, runs=True, lost=None)
        ray.shutdown = lambda: setattr(ray, "runs", False)
        started.append(ray)
        return ray

    monkeypatch.setattr(on_ray, "start_local_ray", start)
    monkeypatch.setattr(on_ray, "_store_bytes", lambda config: config.sync.interval)
    monkeypatch.setattr(ray_cluster, "is_running", lambda: any(ray.runs for ray in started))
    monkeypatch.setattr(ray_cluster, "lost_server", lambda ray: ray.lost)
    monkeypatch.setattr(ray_cluster, "living_nodes", lambda ray: [])
    monkeypatch.setattr(ray_cluster, "free_resources", lambda ray: {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return started


def processes(store: int = 10) -> on_ray.RayProcesses:
    return on_ray.RayProcesses(RunConfig(sync={"interval": store}), [])


async def test_one_ray_serves_all_and_ends_with_the_last(rays):
    with kept_ray.kept():
        for _ in range(3):
            await processes().close()
        (only,) = rays
        assert only.runs
    assert not only.runs
    assert kept_ray.current() is None


async def test_without_it_each_starts_and_ends_its_own(rays):
    for _ in range(2):
        await processes().close()
    assert [ray.runs for ray in rays] == [False, False]


async def test_a_larger_object_store_takes_another_ray(rays):
    with kept_ray.kept():
        await processes(10).close()
        await processes(9).close()
        await processes(11).close()
        assert [(ray.store, ray.runs) for ray in rays] == [(10, False), (11, True)]


async def test_one_that_was_there_before_is_left_alone(rays):
    there = on_ray.start_local_ray(1, 1, 1.0)
    with kept_ray.kept():
        assert kept_ray.current() is None, "nobody may end it"
    assert there.runs


async def test_one_that_lost_a_server_between_two_stages_is_told_and_not_used(rays):
    with kept_ray.kept():
        await processes().close()
        rays[0].lost = NodeError("Ray's raylet has ended")
        with pytest.raises(NodeError, match="raylet"):
            processes()
        assert not rays[0].runs
        rays[0].lost = None
        await processes().close()
        assert len(rays) == 2
    assert not rays[1].runs


async def test_one_that_dies_under_a_run_is_not_used_again(rays):
    with kept_ray.kept():
        first = processes()
        rays[0].lost = NodeError("Ray's raylet has ended")
        await first.close()
        assert not rays[0].runs
        await processes().close()
        assert [ray.runs for ray in rays] == [False, True]


def test_nodes_that_went_with_what_was_lost_are_awaited_for_so_long(rays, monkeypatch):
    asked = [Demand(what="learner rank", count=1, each={"far": 1.0}, settings="x")]
    looks = []

    def living(ray):
        looks.append(ray)
        return [Node(id="1", name="far", total={"far": 1.0})] if len(looks) > 3 else []

    monkeypatch.setattr(ray_cluster, "living_nodes", living)
    monkeypatch.setattr(on_ray, "LOOK_S", 0.0)
    with pytest.raises(InputError, match="asks for 1 far, and no node has that"):
        on_ray.RayProcesses(RunConfig(), asked)
    assert on_ray.RayProcesses(RunConfig(), asked, patience_s=30.0)
    assert len(looks) == 4
    looks.clear()
    monkeypatch.setattr(ray_cluster, "living_nodes", lambda ray: [])
    with pytest.raises(InputError):
        on_ray.RayProcesses(RunConfig(), asked, patience_s=0.05)


def test_a_node_that_has_died_unnoticed_is_asked_in_vain_and_the_next_one_awaited(
    rays, monkeypatch
):
    asked = [Demand(what="learner rank", count=1, each={"far": 1.0}, settings="x")]
    dead, new = (Node(id=id, name=id, total={"far": 1.0, "CPU": 1.0}) for id in ("dead", "new"))
    seen = [[dead], [], [], [new]]

    def survey(ray, nodes, folder):
        if nodes != [new]:
            raise InputError(f"node {nodes[0].name} cannot run oapl")

    monkeypatch.setattr(
        ray_cluster, "living_nodes", lambda ray: seen.pop(0) if len(seen) > 1 else seen[0]
    )
    monkeypatch.setattr(ray_cluster, "free_resources", lambda ray: new.total)
    monkeypatch.setattr(ray_cluster, "join", lambda where, timeout_s: rays_of_another(rays))
    monkeypatch.setattr(ray_cluster, "check_nodes", survey)
    monkeypatch.setattr(on_ray, "LOOK_S", 0.0)
    config = RunConfig(cluster={"address": "127.0.0.2:1"})
    assert on_ray.RayProcesses(config, asked, patience_s=30.0)
    seen[:] = [[dead]]
    with pytest.raises(InputError, match="node dead cannot run oapl"):  # it lives: nothing changes
        on_ray.RayProcesses(config, asked, patience_s=30.0)


def rays_of_another(rays):
    """A Ray that was joined."""
    rays.append(SimpleNamespace(store=0, runs=False, lost=None, shutdown=lambda: None))
    return rays[-1]

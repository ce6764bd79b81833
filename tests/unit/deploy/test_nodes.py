"""Whether a cluster can hold a run, and whether its nodes are fit: tables, no cluster."""

import pytest

from deploy.processes.nodes import Demand, Facts, Node, differences, unmet
from deploy.processes.roles import demands
from oapl.config import RunConfig

RANK = "learner.num_ranks"
WORKER = "rollout.num_engines"


def node(name, **total):
    return Node(id=name, name=name, total={"memory": 1e9, f"node:{name}": 1.0, **total})


def ranks(count, **each):
    return Demand(what="learner rank", count=count, each=each, settings=RANK)


def workers(count, **each):
    return Demand(what="rollout worker", count=count, each=each, settings=WORKER)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([ranks(2, GPU=1), workers(2, GPU=1)], ()),
        ([ranks(0, NPU=8)], ()),
        (
            [ranks(3, GPU=1), workers(2, GPU=1)],
            ("asks for 5 GPU", "3 learner ranks of 1", "has 4", "3 are free", RANK, WORKER),
        ),
        (
            [workers(1, GPU=4)],
            ("a rollout worker asks for 4 GPU", "no node has that", "a has 8 CPU, 2 GPU", WORKER),
        ),
        ([ranks(1, NPU=1)], ("asks for 1 NPU", "no node has that", "free are", RANK)),
        ([workers(2, rollout=1)], ("2 rollout", "has 1", "1 are free", WORKER)),
        ([ranks(160, CPU=0.1)], ()),
        ([ranks(161, CPU=0.1)], ("16.1 CPU", "has 16")),
    ],
    ids=str,
)
def test_what_can_never_be_placed_is_told_with_what_there_is_and_what_is_free(asked, says):
    nodes = [node("a", CPU=8, GPU=2), node("b", CPU=8, GPU=2, rollout=1)]
    lines = unmet(asked, nodes, {"CPU": 12.0, "GPU": 3.0, "rollout": 1.0})
    assert len(lines) == (1 if says else 0), lines
    for words in says:
        assert words in lines[0]
        assert "memory" not in lines[0], "Ray's own bookkeeping says nothing to a person"


def test_each_resource_that_falls_short_is_told_at_once():
    asked = [ranks(3, CPU=1, GPU=1)]
    lines = unmet(asked, [node("a", CPU=1, GPU=1), node("b", CPU=1, GPU=1)], {})
    assert [line.split(" (")[0] for line in lines] == [
        "the run asks for 3 CPU",
        "the run asks for 3 GPU",
    ]


def test_a_cluster_without_nodes_holds_nothing():
    assert "no living node" in unmet([ranks(1, CPU=0.1)], [], {})[0]


def test_custom_resources_are_added_to_those_of_the_device():
    config = RunConfig(
        learner={"num_ranks": 2},
        rollout={"num_engines": 3},
        cluster={"engine_resources": {"rollout": 1.0}, "learner_resources": {"big": 0.5}},
    )
    asked = {d.what: (d.count, dict(d.each)) for d in demands(config)}
    assert asked["learner rank"] == (2, {"CPU": 0.4, "big": 0.5})
    assert asked["rollout worker"] == (3, {"CPU": 0.4, "rollout": 1.0})
    assert asked["replay buffer"][0] == asked["reward server"][0] == 1
    only = {d.what: d.count for d in demands(config, "evaluate")}
    assert only == {
        "learner rank": 0,
        "rollout worker": 3,
        "replay buffer": 0,
        "reward server": 1,
    }
    imitation = {d.what: d.count for d in demands(RunConfig(objective={"name": "sft"}))}
    assert imitation["learner rank"] == 1
    assert sum(imitation.values()) == 1, "SFT samples nothing"


DRIVER = Facts(versions={"python": "3.11.7", "ray": "2.60.0"}, code="abc", place="/here")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (DRIVER, ()),
        (Facts(versions={**DRIVER.versions, "vllm": "0.32.0"}, code="abc"), ()),
        (
            Facts(versions={"python": "3.11.7", "ray": "2.59.0"}, code="abc"),
            ("node far", "ray 2.59.0", "2.60.0", "same set"),
        ),
        (
            Facts(versions={"python": "3.12.1", "ray": "2.60.0"}, code="abc"),
            ("node far", "python 3.12.1", "3.11.7"),
        ),
        (Facts(versions={"python": "3.11.7"}, code="abc"), ("node far", "ray none", "2.60.0")),
        (
            Facts(versions=DRIVER.versions, code="xyz", place="/there"),
            ("node far", "xyz in /there", "abc in /here", "oapl submit"),
        ),
        (
            Facts(versions=DRIVER.versions, code="abc", sees_folder=False),
            ("node far", "does not see the run folder /runs/x", "run.dir"),
        ),
    ],
    ids=str,
)
def test_a_node_that_differs_is_named_with_both_values_and_the_remedy(facts, says):
    lines = list(differences(DRIVER, {"far": facts}, "/runs/x"))
    assert len(lines) == (1 if says else 0), lines
    for words in says:
        assert words in lines[0]

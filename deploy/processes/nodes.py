"""Whether a Ray cluster can hold a run: what is asked and what there is, node by node.

Pure: records in, lines of words out. A refusal is certain: it names what no order of starting could
place. What merely has to wait for its place is the business of a deadline (`launch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Resources = Mapping[str, float]
"""Ray's names of resources (CPU, GPU, NPU, a custom one) to amounts."""

SLACK = 1e-6
"""Ray counts in units of 1e-4; sums of floats differ by less than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Equal processes, and what each asks for on its node.

    Attributes:
        what: In words: `learner rank`.
        count: How many.
        each: Resources of one.
        settings: What a person changes to ask for less.
    """

    what: str
    count: int
    each: Resources
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node.

    Attributes:
        id: Ray's.
        name: For people.
        total: All that it has.
    """

    id: str
    name: str
    total: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a node answers when asked, before anything is started there.

    Attributes:
        versions: Package to version; absent when it is not installed.
        code: Digest of the project's own source files, and where they lie.
        sees_folder: Whether the run folder there is the driver's.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    place: str = ""
    sees_folder: bool = True


def unmet(demands: Sequence[Demand], nodes: Sequence[Node], free: Resources) -> list[str]:
    """Say what can never be placed, one line per reason; nothing when all may fit.

    Args:
        demands: What is asked for.
        nodes: Those alive.
        free: What nobody holds now, for the words alone: what is held may come free.
    """
    there = has(nodes, free)
    lines = []
    for demand in demands:
        if demand.count and not any(_fits(demand.each, node.total) for node in nodes):
            lines.append(
                f"a {demand.what} asks for {words(demand.each)}, and no node has that; {there}; "
                f"change {demand.settings}, or start such a node"
            )
    if lines:
        return lines
    for name, wanted in _sum(demands).items():
        total = sum(node.total.get(name, 0.0) for node in nodes)
        if wanted > total + SLACK:
            askers = [d for d in demands if d.count and d.each.get(name)]
            lines.append(
                f"the run asks for {wanted:g} {name} ({_parts(askers, name)}), but the cluster "
                f"has {total:g}, of which {free.get(name, 0.0):g} are free; {there}; lower "
                f"{' or '.join(dict.fromkeys(d.settings for d in askers))}, or add nodes"
            )
    return lines


def has(nodes: Sequence[Node], free: Resources) -> str:
    """Say what the cluster is made of, for an error message.

    Args:
        nodes: Those alive.
        free: What nobody holds now, over all nodes.
    """
    if not nodes:
        return "the cluster has no living node"
    names = dict.fromkeys(name for node in nodes for name in node.total)
    shown = {name: free.get(name, 0.0) for name in names if _is_asked_for(name)}
    each = ", ".join(f"{node.name} has {words(node.total)}" for node in nodes)
    return f"{each}; free are {words(shown)}"


def words(resources: Resources) -> str:
    """Write resources as `2 CPU, 1 GPU`, without Ray's own bookkeeping."""
    shown = [f"{amount:g} {name}" for name, amount in resources.items() if _is_asked_for(name)]
    return ", ".join(shown) or "nothing"


def differences(driver: Facts, nodes: Mapping[str, Facts], folder: str) -> Iterator[str]:
    """Say what is not on a node as it is where the run is started, a line per node and reason.

    A package that the driver itself lacks is none of its business: a driver needs no engine.

    Args:
        driver: What there is where the run is started.
        nodes: What there is on each node, by its name.
        folder: The run's, for the words.
    """
    for name, facts in nodes.items():
        for package, version in driver.versions.items():
            there = facts.versions.get(package, "none")
            if there != version:
                yield (
                    f"node {name} has {package} {there}, but this process has {version}; install "
                    "the same set on every node (deploy/requirements)"
                )
        if facts.code != driver.code:
            yield (
                f"node {name} runs other code of oapl ({facts.code} in {facts.place}) than this "
                f"process ({driver.code} in {driver.place}); install the same on every node, or "
                "let `oapl submit` ship it"
            )
        if not facts.sees_folder:
            yield (
                f"node {name} does not see the run folder {folder} of this process; set run.dir to "
                "a place on storage that all nodes share"
            )


def _fits(asked: Resources, total: Resources) -> bool:
    return all(total.get(name, 0.0) + SLACK >= amount for name, amount in asked.items())


def _sum(demands: Sequence[Demand]) -> dict[str, float]:
    total: dict[str, float] = {}
    for demand in demands:
        for name, amount in demand.each.items():
            total[name] = total.get(name, 0.0) + demand.count * amount
    return total


def _parts(demands: Sequence[Demand], name: str) -> str:
    return ", ".join(
        f"{d.count} {d.what}{'s' if d.count > 1 else ''} of {d.each[name]:g}" for d in demands
    )


def _is_asked_for(name: str) -> bool:
    return name not in ("memory", "object_store_memory") and not name.startswith("node:")

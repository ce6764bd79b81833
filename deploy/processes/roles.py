"""What each kind of process is made by, asks of a cluster, and is given as environment.

Environment variables come from the device, engine and DeepSpeed files, so that they stand before
torch or vLLM is imported.
"""

from __future__ import annotations

from typing import Any

from actors.engines.base import ENGINES
from deploy.processes.nodes import Demand
from oapl.config import RunConfig, plugins
from oapl.config.objective import Purpose, has_engines, samples
from oapl.devices.base import Role, engine_name
from oapl.devices.base import load as load_device

BUILDERS: dict[Role, str] = {
    "replay": "deploy.run.batches:build_replay",
    "reward": "reward_server.server:build",
    "worker": "actors.worker:build",
    "trainer": "learner.trainer:build",
}
BUILDERS_ALONE: dict[Role, str] = {"replay": "deploy.run.batches:build_replay_alone"}
"""Those that differ where the process is the object's own."""


def demands(config: RunConfig, purpose: Purpose = "train") -> list[Demand]:
    """Count what the run asks of a cluster, process by process.

    Args:
        config: The run.
        purpose: Only to train takes learner ranks, and an evaluation no replay buffer.
    """
    is_training = purpose == "train"
    ranks = config.learner.num_ranks if is_training else 0
    engines = config.rollout.num_engines if has_engines(config) or not is_training else 0
    judged = int(engines > 0)
    buffered = int(purpose == "generate" or (is_training and samples(config)))
    counts: dict[Role, tuple[int, str, str]] = {
        "trainer": (ranks, "learner rank", "learner.num_ranks"),
        "worker": (engines, "rollout worker", "rollout.num_engines"),
        "replay": (buffered, "replay buffer", "rollout.num_engines"),
        "reward": (judged * config.reward.servers, "reward server", "reward.servers"),
    }
    return [
        Demand(what=what, count=count, each=amounts(config, role), settings=settings)
        for role, (count, what, settings) in counts.items()
    ]


def options(config: RunConfig, role: Role) -> dict[str, Any]:
    """Resources in the form of Ray's options: the device's, and the configuration's own.

    Args:
        config: The run.
        role: What the process does.
    """
    found: dict[str, Any] = dict(load_device(config).resources(config, role))
    cluster = config.cluster
    own = {"trainer": cluster.learner_resources, "worker": cluster.engine_resources}.get(role, {})
    found["resources"] = {**found.get("resources", {}), **own}
    return found


def amounts(config: RunConfig, role: Role) -> dict[str, float]:
    """The same by Ray's names of resources.

    Args:
        config: The run.
        role: What the process does.
    """
    asked = options(config, role)
    named = {"CPU": asked.get("num_cpus", 0), "GPU": asked.get("num_gpus", 0)}
    every = {**named, **asked["resources"]}
    return {name: amount for name, amount in every.items() if amount}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Collect the variables for a process, of its device and of the library inside it.

    Args:
        config: The run.
        role: What the process does.
    """
    variables = dict(load_device(config).environment(config, role))
    if role == "worker":
        engine = ENGINES.load(engine_name(config), "rollout.engine")
        variables |= engine.environment(config)
    if role == "replay":  # a few tasks of reasoning-gym make other puzzles in every process
        variables["PYTHONHASHSEED"] = "0"
    if role == "trainer":
        variables |= plugins.resolve("learner.zero_engine:environment")(config)
    return variables

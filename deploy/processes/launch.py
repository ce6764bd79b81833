"""Starts the processes of a run, on Ray or in this process, behind one small interface."""

from __future__ import annotations

from deploy.processes.base import Processes
from deploy.processes.local import LocalProcesses
from deploy.processes.on_ray import RayProcesses
from deploy.processes.roles import demands
from oapl.config import RunConfig
from oapl.config.objective import Purpose


def connect(config: RunConfig, purpose: Purpose = "train", patience_s: float = 0.0) -> Processes:
    """Make the launcher that `cluster.mode` names.

    Args:
        config: The run.
        purpose: Only to train takes learner ranks, and an evaluation no replay buffer.
        patience_s: How long nodes that it needs may be away.

    Raises:
        InputError: The cluster does not answer, cannot hold the run, or its nodes differ.
    """
    if config.cluster.mode == "local":
        return LocalProcesses(config)
    return RayProcesses(config, demands(config, purpose), patience_s)

"""Where a run's folder will be, whether it can be there, and whether another one is there."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.processes import ray_cluster
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.tracking.lines import METRICS_FILE


def check_folder(config: RunConfig) -> None:
    """Refuse a place where no run folder can be made; makes none.

    Args:
        config: Names it.

    Raises:
        InputError: It would be lost with a job, is a file, or cannot be written to.
    """
    if ray_cluster.is_job() and not Path(config.run.dir).is_absolute():
        raise InputError(
            f"run.dir = {config.run.dir!r}: is relative, and the working directory of a Ray job is "
            "a temporary copy that goes with the cluster; give an absolute path on storage that "
            "all nodes share, or start the run by `oapl submit`"
        )
    folder = config.folder
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(
            f"run.dir = {config.run.dir!r}, run.name = {config.run.name!r}: {there} is a file, so "
            f"{folder} cannot be made; choose another run.dir or run.name"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"run.dir = {config.run.dir!r}: {there} cannot be written to; choose another run.dir"
        )


def check_baseline(config: RunConfig) -> None:
    """Refuse a run to compare with that has written no metrics.

    Args:
        config: Names it.

    Raises:
        InputError: It is no run folder.
    """
    baseline = config.tracking.baseline
    if baseline and not (Path(baseline).expanduser() / METRICS_FILE).is_file():
        raise InputError(
            f"tracking.baseline = {baseline!r}: there is no {METRICS_FILE} in it; name the folder "
            "of a run, like runs/NAME, or leave it out"
        )

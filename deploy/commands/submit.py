"""`oapl submit`: the same run as a Ray job, seen through as if it ran here.

The job is `python -m oapl train RECIPE ...` in a copy of the working directory, so plain
`ray job submit` does the same. What this adds is in `deploy/commands/_submit/`: paths that the copy
does not hold are made absolute where the command is given (`shipped`), logs are followed, an
interrupt stops the job with time for a last checkpoint, and the exit code is the run's own (`job`).
"""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "train on a Ray cluster, as a job: ships the code, streams the logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "The same run as `oapl train` (or `sft`) as a Ray job. Ctrl-C stops it with a "
        "checkpoint. The exit code is the run's own."
    )
    _shared.add_recipe(parser)
    parser.add_argument(
        "--address",
        default="",
        help="http://HOST:8265 of the cluster (default RAY_ADDRESS, else cluster.address)",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="more files of the working directory that stay here, as in .gitignore",
    )
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=int,
        default=600,
        help="time for the last checkpoint when the job is stopped (default 600)",
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.commands._submit.job import submit

    return submit(
        options.recipe,
        options.overrides,
        address=options.address,
        exclude=options.exclude,
        grace_s=options.grace,
    )

"""`oapl reset`: ask a run to set its reference policy anew at its next iteration."""

from __future__ import annotations

import argparse
from pathlib import Path

from oapl.errors import InputError

HELP = "make a run's present policy its reference, at its next iteration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.commands._shared import present_stage
    from learner.resets import REQUEST
    from oapl.objectives.base import build
    from oapl.tracking import status

    folder: Path = options.folder
    config, _ = present_stage(folder)
    objective = config.objective
    if "reference" not in build(objective).declares.needs:
        raise InputError(
            f"{folder}: its objective ({objective['name']}) has no reference; one with a KL "
            "penalty has (objective.kl_coefficient of grpo, ppo and remix)"
        )
    (folder / REQUEST).touch()
    found = status.read(folder)
    if found is not None and found.phase == status.DONE:
        print("asked for; this run is over, and does it first if it is given more steps to make")
    else:
        print("asked for; the run says when it is done, and counts it in reference/resets")
    return 0

"""`oapl next`: ask a run to end its present stage at the end of an iteration."""

from __future__ import annotations

import argparse
from pathlib import Path

from oapl.errors import InputError

HELP = "end a run's present stage, and go on with the next one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.commands._shared import present_stage
    from learner.moving_on import REQUEST
    from oapl.tracking import status
    from oapl.whole_files import written_aside

    folder: Path = options.folder
    _, stage = present_stage(folder)
    if stage is None:
        raise InputError(f"{folder}: its recipe has no stages, so that none can end")
    if stage.kind != "train":
        raise InputError(
            f"{folder}: its present stage ({stage.name}) is of kind {stage.kind}, which ends when "
            "it is done; only a train stage can be ended early"
        )
    found = status.read(folder)
    if found is not None and found.phase == status.DONE:
        raise InputError(
            f"{folder}: all its stages have ended; give the last one more steps (run.max_steps) to "
            "go on"
        )
    with written_aside(folder / REQUEST) as part:
        part.write_text(stage.name + "\n")
    print(f"asked for; the run says when stage {stage.name} has ended")
    return 0

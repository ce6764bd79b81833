"""`oapl watch`: the live view of a run, from another terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "the live view of a run, from another terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from oapl.tracking.watch import watch

    return watch(options.folder)

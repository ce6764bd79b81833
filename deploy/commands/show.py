"""`oapl show`: stored rollouts of a run, best and worst first."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "read stored rollouts, best and worst first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--limit", type=int, default=5, help="rollouts of each end (default 5)")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from oapl.tracking.rollouts import show

    show(options.folder, options.limit)
    return 0

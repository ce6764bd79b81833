"""`oapl export`: stored answers in the form of another program."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write stored answers as a log of inspect-ai"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Writes a log of inspect-ai for each set of stored answers: samples as epochs, the reward "
        "as the score, greedy answers as a log of their own. `inspect view --log-dir FOLDER` shows "
        "them."
    )
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        type=Path,
        help="a run, RUN/evaluations/eval, or a set in it",
    )
    parser.add_argument(
        "--inspect", metavar="FOLDER", type=Path, required=True, help="where the logs are written"
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.run import evaluation_report, inspect_log

    for path in inspect_log.write(evaluation_report.read(options.answers), options.inspect):
        print(path)
    return 0

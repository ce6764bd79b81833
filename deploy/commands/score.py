"""`oapl score`: stored responses are judged by one verifier, as in a run, without Ray.

The work is in `deploy/commands/_score/`: `records` reads, `judging` asks the reward server, `shown`
tells the outcome.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands import _shared

HELP = "judge stored responses by one verifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Judges records {id, response, prompt, answer, ...} (.jsonl, .jsonl.gz, "
        ".parquet; a run's stored rollouts too) and writes {id, verdict, reward, detail, parts, "
        "seconds}, one line each, in the same order. Needs no Ray."
    )
    parser.add_argument("source", metavar="IN", type=Path, help="the records")
    _shared.add_overrides(parser)
    parser.add_argument("--verifier", required=True, metavar="NAME", help="math, code, ifeval...")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="the verdicts")
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the verifier's own; may be given again",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="limit for one record")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.commands._score.judging import score

    return score(
        options.source,
        options.verifier,
        options.out,
        options=options.option,
        overrides=options.overrides,
        workers=options.workers,
        deadline_s=options.deadline,
        overwrite=options.overwrite,
    )

"""`oapl filter`: stored groups go through filters, and what is left becomes a set of its own.

The work is in `deploy/filtering/`, the filters are the files of `deploy/filters/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands import _shared

HELP = "sort out stored groups"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Reads stored groups (a folder of groups-*.parquet), applies filters in the order given, "
        "and writes what is left to OUT, with _filter.json, which tells what each filter did. A "
        "killed command leaves nothing; the same command begins again."
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a set of stored groups")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="the result")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--filter",
        dest="filters",
        nargs="+",
        action="append",
        metavar=("NAME", "KEY=VALUE"),
        help="a filter and its options; may be given again",
    )
    which.add_argument("--filters", dest="file", type=Path, metavar="TOML", help="or a file")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="REWARD",
        help="an answer is right where its reward is above this (default 0)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    _shared.add_late_help(parser, _filters_help)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.filtering import choosing, running

    if options.file is None:
        filters = choosing.from_words(options.filters, options.threshold)
    else:
        filters = choosing.from_file(options.file, options.threshold)
    running.apply(
        options.source,
        options.out,
        filters,
        threshold=options.threshold,
        overwrite=options.overwrite,
    )
    return 0


def _filters_help() -> str:
    from deploy.commands._settings import filters_text

    return filters_text()

"""`oapl report`: one page of what runs did."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "one page of what runs did: figures, tables, samples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Writes a page that needs nothing else: the verdict, learning curves, lag and idle, where "
        "every second went, evaluations, accounting, samples. Runs that differ only in seeds "
        "are one curve with a band."
    )
    parser.add_argument("folders", metavar="RUN", type=Path, nargs="+", help="a run folder")
    parser.add_argument(
        "--out", type=Path, default=None, help="the page (default: RUN/report.html)"
    )
    parser.add_argument("--title", default="", help="of the page (default: what tells the runs)")
    parser.add_argument(
        "--png", type=Path, metavar="FOLDER", default=None, help="every figure also as a PNG there"
    )
    parser.add_argument(
        "--figure",
        dest="figures",
        metavar="NAME",
        action="append",
        default=[],
        help="draw this one alone, a file of oapl/reports or a module of your own; several times",
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`.

    Raises:
        InputError: Several runs and no --out, or no run lies there, or there is no such figure.
    """
    from oapl import reports
    from oapl.errors import InputError

    if options.out is None and len(options.folders) > 1:
        raise InputError(
            f"{len(options.folders)} runs, and no place for their page; give --out report.html"
        )
    study = reports.Study.read(options.folders)
    drawn = reports.draw(study, options.figures)
    out = options.out or options.folders[0] / "report.html"
    reports.write(study, drawn, out, options.title)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    if options.png is not None:
        made = reports.write_png(drawn, options.png)
        print(f"{len(made)} pictures in {options.png}")
    return 0

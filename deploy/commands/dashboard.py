"""`oapl dashboard`: the board of a project on W&B, or the one for Grafana as JSON."""

from __future__ import annotations

import argparse
import json

from oapl.errors import InputError

HELP = "build the board of a W&B project, or print Grafana's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("--entity", default="", help="W&B team or person")
    parser.add_argument("--project", default="oapl", help="W&B project (default oapl)")
    parser.add_argument(
        "--grafana", action="store_true", help="print the board over Ray's gauges, for an import"
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    if options.grafana:
        from deploy.commands._dashboard.grafana import board

        print(json.dumps(board(), indent=1))
        return 0
    if not options.entity:
        raise InputError("--entity is needed to build a board on W&B; or print one by --grafana")
    from deploy.commands._dashboard.workspace import workspace

    made = workspace(options.entity, options.project)
    made.save()
    print(made.url)
    return 0

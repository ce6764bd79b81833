"""`oapl doctor`: what this machine lacks for a run. What is looked at is in `deploy/doctor/`."""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "what this machine lacks for a run, with remedies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_recipe(parser, optional="check it too")
    parser.add_argument("--ray", action="store_true", help="start Ray and end it again")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.doctor.examination import doctor

    return doctor(options.recipe, options.overrides, start_ray=options.ray)

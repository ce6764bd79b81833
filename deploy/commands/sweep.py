"""`oapl sweep`: the cells of a grid of settings are trained here, one after the other.

The work is in `deploy/sweeping/`.
"""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "train a grid of settings, one run after the other"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Trains RECIPE once for every combination of the values given, as `oapl train` (or `sft`) "
        "would, in run.dir/NAME-sweep, and ends with a table, also sweep.csv there. Values are "
        "separated by commas outside of brackets and quotes: optimizer.lr=1e-6,3e-6 are two, "
        "eval.ks=[1,8] is one, as is 'data.system_prompt=\"Yes, or no\"'; a single value is for "
        "all cells. All cells are checked before the first starts. The same command skips what is "
        "done and goes on where it was ended."
    )
    _shared.add_recipe(parser)
    parser.add_argument(
        "--case",
        dest="cases",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="several settings that go together, under a name; all cases are one more dimension",
    )
    parser.add_argument("--dry-run", action="store_true", help="check all cells and list them")
    parser.add_argument(
        "--stop-on-failure", action="store_true", help="begin no further cell after a failed one"
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.sweeping import running
    from deploy.sweeping.plan import plan

    planned = plan(options.recipe, options.overrides, options.cases, is_dry=options.dry_run)
    if options.dry_run:
        running.show(planned)
        return 0
    return running.run(planned, stop_on_failure=options.stop_on_failure)

"""`oapl plan`: what a recipe would do on a machine, by simulation; nothing is started.

The work is in `deploy/planning/`, the event model in `oapl/planning/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands import _shared
from oapl.errors import InputError

HELP = "foresee hours, idle time and loads of a recipe"
FILE_WIDTH = 140
"""Of a table that goes to no terminal, in characters."""
DESCRIPTION = """\
Simulates a recipe's engines, buffer and learner on a machine: idle time of both sides, tokens
thrown away, lag, hours and device-hours, seconds of a publication by transport, loads of replay
buffer and reward processes; what holds it up; and which L, surplus, lead and division of the
devices end it soonest within a bound on the lag. Rates come from a run or from `make bench`, from
--rate, or are assumed by what the card can do, and are marked ASSUMED. Memory is what
`oapl train RECIPE --for DEVICES` looks at. Two calls print the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = DESCRIPTION
    _shared.add_late_help(parser, _rates_help)
    _shared.add_recipe(parser)
    parser.add_argument(
        "--for",
        dest="hardware",
        metavar="DEVICES",
        default="",
        help="the machine, like cuda:64x80GiB (default: as many devices as the recipe takes)",
    )
    parser.add_argument("--card", default="", help="its cards, like H100 (the usual one), A800")
    parser.add_argument(
        "--rates", type=Path, metavar="PLACE", help="a run folder, or bench.json of `make bench`"
    )
    parser.add_argument("--bench-model", default="", help="whose rows of bench.json")
    parser.add_argument(
        "--rate",
        dest="given",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a rate that you know, over all others; may be given again (names below)",
    )
    parser.add_argument(
        "--lengths",
        metavar="LENGTHS",
        default="",
        help="of responses: a set of stored groups, a run folder, or mean=4000,sigma=0.6 "
        "(default: those of the run that --rates names, else assumed)",
    )
    parser.add_argument(
        "--parameters", type=float, default=0.0, help="of a model that is not here, like 4e9"
    )
    parser.add_argument("--stage", default="", help="which train stage, where there are several")
    parser.add_argument(
        "--max-lag", type=int, help="largest lag of the search, in learner steps (the recipe's)"
    )
    parser.add_argument(
        "--questions", type=int, default=0, help="answered before a run on stored rollouts"
    )
    parser.add_argument("--price", type=float, default=0.0, help="of a device-hour")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from rich.console import Console

    from deploy.planning.making import Asked, plan, rate_of
    from deploy.planning.shown import as_json, show
    from deploy.sizing.hardware import parse

    _check(options)
    asked = Asked(
        hardware=parse(options.hardware) if options.hardware else None,
        card=options.card,
        rates=options.rates,
        bench_model=options.bench_model,
        given=dict(map(rate_of, options.given)),
        lengths=options.lengths,
        parameters=options.parameters,
        stage=options.stage,
        max_lag=options.max_lag,
        questions=options.questions,
        price=options.price,
        seed=options.seed,
    )
    made = plan(_shared.config_of(options), asked)
    if options.json:
        print(as_json(made))
    else:
        screen = Console()
        show(made, screen if screen.is_terminal else Console(width=FILE_WIDTH))
    return 0


def _check(options: argparse.Namespace) -> None:
    for name in ("parameters", "questions", "price", "seed", "max_lag"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} {value}: is below 0, or no number")


def _rates_help() -> str:
    from oapl.planning.rates import FIELDS, UNITS

    width = max(map(len, FIELDS))
    return "\n".join(["rates:", *(f"  {name:<{width}}  {UNITS[name]}" for name in FIELDS)])

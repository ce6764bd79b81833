"""`oapl compare`: two evaluations side by side, and before a run what it could show.

The statistics are in `oapl/comparison/`; `deploy/commands/_compare/` reads both sides and tells the
outcome.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from oapl.errors import InputError

HELP = "compare two evaluations, or tell what one could show"
FILE_WIDTH = 140
"""Of a table that goes to no terminal, in characters."""
DESCRIPTION = """\
Puts B beside A problem by problem: the mean difference with a 95 % interval (bootstrap over
problems, their samples together), its p (sign-flip permutation test; of greedy answers that are
right or wrong McNemar's exact test), and, of several sets, p among all tests (Benjamini-Hochberg).
A and B are run folders (their last evaluation, unless --label says which), sets of stored answers
(RUN/evaluations/eval/SET, or RUN/evaluations/eval with all its sets), or files of answers as text
(RUN/evaluations/LABEL.SET.jsonl). With several runs of a method, one per seed, --a and --b take
them: then also the mean of each run's best evaluation with its standard error, and the
interquartile mean with a stratified bootstrap. Two calls print the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = DESCRIPTION
    parser.add_argument("places", metavar="A B", type=Path, nargs="*", help="what is compared")
    for side in ("a", "b"):
        parser.add_argument(
            f"--{side}", metavar="RUN", type=Path, nargs="+", default=[], help="runs, one per seed"
        )
    parser.add_argument("--label", default="", help="which evaluation of a run: step-40, eval")
    parser.add_argument(
        "--set", dest="sets", metavar="SET", action="append", default=[], help="these sets alone"
    )
    parser.add_argument(
        "--measure",
        dest="measures",
        metavar="NAME",
        action="append",
        default=[],
        help="mean, right, pass@K, maj, greedy, halved, length, truncated, think, reflection; may "
        "be given again (default: mean and greedy, what both have)",
    )
    parser.add_argument("--threshold", type=float, help="smallest reward that counts as right")
    parser.add_argument("--draws", type=int, default=10_000, help="resamples (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    plan = parser.add_argument_group(
        "before a run", "the smallest difference that is shown, with A as the model or without one"
    )
    plan.add_argument("--problems", type=int, metavar="N", help="problems of the set")
    plan.add_argument("--samples", type=int, metavar="K", default=1, help="answers to each")
    plan.add_argument(
        "--correlation",
        type=float,
        default=0.5,
        help="between both models' rates per problem (default 0.5)",
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    if options.problems is not None:
        return _plan(options)
    from rich.console import Console

    from deploy.commands._compare.outcome import compared
    from deploy.commands._compare.shown import as_json, show
    from deploy.commands._compare.sides import Asked, read

    _check(options)
    a, b = ([read(place, options.label) for place in side] for side in _sides(options))
    asked = Asked(
        sets=tuple(options.sets),
        measures=tuple(options.measures),
        threshold=options.threshold,
        draws=options.draws,
        seed=options.seed,
    )
    outcome = compared(a, b, asked)
    if options.json:
        print(as_json(outcome, a, b))
    else:
        screen = Console()
        show(outcome, a, b, screen if screen.is_terminal else Console(width=FILE_WIDTH))
    return 0


def _sides(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    if options.a or options.b:
        if options.places or not (options.a and options.b):
            raise InputError("--a and --b go together, and instead of A B; give both, with runs")
        return options.a, options.b
    if len(options.places) != 2:
        raise InputError(
            f"{len(options.places)} places; name two, A and B, or several runs of each by --a and "
            "--b, or ask by --problems what an evaluation could show"
        )
    return [options.places[0]], [options.places[1]]


def _check(options: argparse.Namespace) -> None:
    if options.draws < 1 or options.seed < 0:
        raise InputError(
            f"--draws {options.draws} --seed {options.seed}: draws are at least 1, a seed is at "
            "least 0"
        )


def _plan(options: argparse.Namespace) -> int:
    """Tell what an evaluation could show, by a model's own spread where one is named."""
    from deploy.commands._compare import planning

    if options.a or options.b or len(options.places) > 1:
        raise InputError("--problems asks of one model: name A alone, or none")
    print(
        planning.told(
            options.places[0] if options.places else None,
            label=options.label,
            sets=options.sets,
            problems=options.problems,
            samples=options.samples,
            correlation=options.correlation,
        )
    )
    return 0

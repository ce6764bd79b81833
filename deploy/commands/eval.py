"""`oapl eval`: the model of a recipe is evaluated here, and nothing is trained.

With `--from` nothing is generated either: stored answers are measured, or judged, once more. The
work of that is in `deploy/run/evaluation_report.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands import _shared
from oapl.errors import InputError

HELP = "evaluate a model, or measure stored answers again"
ABOVE = 3
"""Folders above a set in which its run's settings may lie."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_run(parser, HELP, is_training=False, optional="a TOML file")
    parser.add_argument(
        "--from",
        dest="answers",
        metavar="ANSWERS",
        type=Path,
        help="read the answers stored there (RUN/evaluations/eval, or a set in it) instead of "
        "generating; KEY=VALUE, over RECIPE or else the run's own settings, may change eval.ks, "
        "eval.threshold, eval.reflection_words and a set's category",
    )
    parser.add_argument(
        "--rejudge", action="store_true", help="judge stored answers by the verifiers as they are"
    )
    parser.add_argument(
        "--out", type=Path, metavar="OUT", help="write judged answers as sets there"
    )
    parser.add_argument("--json", action="store_true", help="print figures as JSON")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.checks.evaluation import evaluating

    if options.answers is not None:
        return _again(options)
    if options.rejudge or options.out or options.json:
        raise InputError("--rejudge, --out and --json are for stored answers; name them by --from")
    if options.recipe is None:
        raise InputError("name a RECIPE to evaluate its model, or stored answers by --from")
    config = evaluating(_shared.config_of(options))
    if options.dry_run:
        return _shared.dry_run(config, "evaluate")
    from deploy.run import program, summary

    return summary.show_evaluation(program.evaluate(config))


def _again(options: argparse.Namespace) -> int:
    """Measure stored answers, and judge them before where that is asked for."""
    from rich.console import Console

    from deploy.run import evaluation_report as report
    from oapl.config.toml import load_config

    recipe, overrides = _said(options)
    sets = report.read(options.answers)
    if options.rejudge or recipe is not None or overrides:
        config = load_config(recipe or _of_the_run(options.answers), overrides)
        sets = report.measured_by(sets, config)
        sets = report.judged_again(sets, config) if options.rejudge else sets
    if options.out:
        report.write(sets, options.out)
    if options.json:
        print(report.as_json(sets))
    else:
        report.show(sets, Console())
    return 0


def _said(options: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """Recipe and overrides; without a recipe the first override stands in its place."""
    if options.recipe is None or options.recipe.is_file() or "=" not in str(options.recipe):
        return options.recipe, options.overrides
    return None, [str(options.recipe), *options.overrides]


def _of_the_run(answers: Path) -> Path:
    """The settings of the run that the answers are of.

    Raises:
        InputError: They lie in no run folder.
    """
    from deploy.run.evaluation_files import ANSWERS, SETTINGS

    places = [answers.absolute(), *answers.absolute().parents[:ABOVE]]
    files = [p / name for p in places for name in (f"{ANSWERS}/{SETTINGS}", "config.toml")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise InputError(
            f"--from {answers}: lies in no run folder, whose settings would say how to judge; name "
            "a RECIPE as well"
        )
    return found

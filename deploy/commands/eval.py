"""`oapl eval`: the model of a recipe is evaluated here, and nothing is trained."""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "evaluate a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_run(parser, HELP, is_training=False)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    config = _shared.config_of(options)
    if options.dry_run:
        return _shared.dry_run(config, "evaluate")
    from deploy.run import program, summary

    return summary.show_evaluation(program.evaluate(config))

"""`oapl generate`: the questions of a recipe are answered here, and the groups stored."""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "answer each question G times and store the judged groups"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_run(parser, HELP, is_training=False)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.checks.generation import generating
    from deploy.checks.settings import check_verb

    config = generating(_shared.config_of(options))
    check_verb(config, samples=True)
    if options.dry_run:
        return _shared.dry_run(config, "generate")
    from deploy.run import generation, summary

    return summary.report_generation(generation.generate(config))

"""`oapl train`: a recipe is trained here by reinforcement learning."""

from __future__ import annotations

import argparse

from deploy.commands import _shared

HELP = "train by reinforcement learning"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_run(parser, HELP, is_training=True)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    return _shared.train(options, samples=True)

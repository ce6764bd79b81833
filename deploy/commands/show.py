"""`oapl show`: stored rollouts of a run, best and worst first."""

from __future__ import annotations

import argparse
from pathlib import Path

from oapl.errors import InputError

HELP = "read stored rollouts, best and worst first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--limit", type=int, default=5, help="rollouts of each end (default 5)")
    parser.add_argument("--verdict", default="", help="only those with this kind of verdict")
    parser.add_argument("--prompt", default="", help="only those with this in question or id")
    parser.add_argument("--step", default="", help="only those of this step, or of 10-20")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from oapl.tracking.rollouts import Which, show

    which = Which(verdict=options.verdict, prompt=options.prompt, steps=_steps(options.step))
    show(options.folder, options.limit, which=which)
    return 0


def _steps(text: str) -> tuple[int, int] | None:
    """`7` is step 7 alone."""
    if not text:
        return None
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise InputError(f"--step {text}: is no step; write one like 40, or two like 40-60")
    return int(first), int(last or first)

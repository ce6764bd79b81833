"""The command line: words to functions, errors to exit codes.

Each verb is a file here (`Verb`), and what belongs to one verb alone lies in `_VERB/`. The files
are all imported for `oapl --help`, so what takes longer than a blink is imported in `run`. Exit
codes: 0 done, 1 failed, 2 bad input, 129, 130 and 143 stopped by SIGHUP, SIGINT and SIGTERM (with a
checkpoint once a step was made).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from oapl.errors import HeadError, InputError, NodeError, OaplError, in_one_line

VERBS = (
    *("train", "sft", "eval", "generate", "import_", "filter", "submit", "score", "show", "watch"),
    *("compare", "report", "export", "align", "dashboard", "reset", "next", "sweep", "doctor"),
    *("plan", "init", "quickstart"),
)
"""The files, in the order in which the help lists them; a word of Python's has a `_` behind it."""
EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130


class Verb(Protocol):
    """A file of `deploy/commands/`."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The verb's own words and options; its description, where it has one."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words behind `oapl`; default: those of this process.

    Returns:
        The exit code.
    """
    options = _parse(arguments)
    options.owns_process = arguments is None
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        return int(options.run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except OaplError as error:
        print(f"failed: {type(error).__name__}: {in_one_line(error)}", file=sys.stderr)
        if isinstance(error, (NodeError, HeadError)):
            _leave(EXIT_FAILED)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _leave(code: int) -> None:
    """End the process now: Ray's farewell would wait a minute for what has ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may also stand behind an option, where argparse looks for none."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oapl",
        description="Asynchronous off-policy RL post-training of reasoning language models.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in VERBS:
        verb = cast(Verb, importlib.import_module(f"{__name__}.{name}"))
        command = commands.add_parser(name.rstrip("_"), help=verb.HELP)
        verb.add_arguments(command)
        command.set_defaults(run=verb.run)
    return parser

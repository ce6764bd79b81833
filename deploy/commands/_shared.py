"""What several verbs share: a recipe with overrides, and a dry run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from oapl.config import RunConfig
from oapl.config.objective import Purpose
from oapl.errors import InputError

if TYPE_CHECKING:
    from oapl.config.stages import Stage


def add_recipe(parser: argparse.ArgumentParser, *, optional: str = "") -> None:
    """RECIPE and KEY=VALUE.

    Args:
        parser: Of the verb.
        optional: What a recipe is for, where the verb does something without one.
    """
    if optional:
        parser.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help=optional)
    else:
        parser.add_argument("recipe", metavar="RECIPE", type=Path, help="a TOML file")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE, also behind options (see `deploy.commands`)."""
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")


def add_run(
    parser: argparse.ArgumentParser, text: str, *, is_training: bool, optional: str = ""
) -> None:
    """All of a verb that runs a recipe here.

    Args:
        parser: Of the verb.
        text: What the verb does.
        is_training: Offer a dry run for a machine that is not here.
        optional: See `add_recipe`.
    """
    parser.description = f"{text}; settings come from RECIPE, then from KEY=VALUE overrides"
    add_late_help(parser, _settings_help)
    add_recipe(parser, optional=optional)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration, refuse what cannot work, start nothing",
    )
    if is_training:
        parser.add_argument(
            "--for",
            dest="hardware",
            metavar="DEVICES",
            default="",
            help="a dry run for a machine that is not here, like cuda:8x80GiB",
        )


def config_of(options: argparse.Namespace) -> RunConfig:
    """The recipe with its overrides; that of a run folder is for the folder it lies in.

    Raises:
        InputError: A setting is wrong by itself.
    """
    from oapl.config.toml import load_config

    config = load_config(options.recipe, options.overrides)
    if options.owns_process:
        _lighten(config)
    if options.recipe is None:
        return config
    from deploy.run.folders import moved_here

    return moved_here(config, options.recipe, options.overrides)


def _lighten(config: RunConfig) -> None:
    """Load no torch into a process that only directs others; filters may be models of the user's,
    and a model's own code may want all of transformers."""
    is_plain = not (config.is_staged or config.filters or config.model.trust_remote_code)
    if config.cluster.mode == "ray" and is_plain:
        from actors.data.tokenizer import spare_torch

        spare_torch()


def present_stage(folder: Path) -> tuple[RunConfig, Stage | None]:
    """The settings that a run is at, and the stage that they are of; None where it has none.

    Args:
        folder: The run's.

    Raises:
        InputError: No run has been started there.
    """
    from deploy.run import stage_record
    from oapl.config.stages import stages_of
    from oapl.config.toml import load_config

    recipe = folder / "config.toml"
    if not recipe.is_file():
        raise InputError(f"{folder}: no run has been started there; name the folder of a run")
    config = load_config(recipe, [])
    stages = stages_of(config)
    if not stages:
        return config, None
    number = min(len(stage_record.read(folder, stages)), len(stages) - 1)
    return stages[number].config, stages[number]


def train(options: argparse.Namespace, *, samples: bool) -> int:
    """Run a recipe here, or try it out by a dry run.

    Args:
        options: Of `add_run`.
        samples: See `deploy.checks.settings.check_verb`.

    Returns:
        The exit code.

    Raises:
        InputError: The recipe cannot work, or is for another verb.
    """
    from deploy.checks.settings import check_verb

    config = config_of(options)
    if not config.is_staged or not samples:
        check_verb(config, samples=samples)
    if options.dry_run or options.hardware:
        return dry_run(config, "train", hardware=options.hardware)
    from deploy.run import program, summary

    return summary.report(program.train(config))


def dry_run(config: RunConfig, purpose: Purpose, *, hardware: str = "") -> int:
    """Print what a run would be.

    Args:
        config: The run.
        purpose: Of the command.
        hardware: A machine that is not here, like `cuda:8x80GiB`; empty: this one.

    Returns:
        The exit code.

    Raises:
        InputError: It cannot work.
    """
    from deploy.checks.preflight import preflight
    from deploy.checks.stages import look_at_stages
    from deploy.sizing.hardware import parse

    there = parse(hardware) if hardware else None
    if config.is_staged and purpose == "train":
        print(look_at_stages(config, is_dry=True, hardware=there))
        return 0
    print(preflight(config, purpose=purpose, is_dry=True, hardware=there))
    return 0


def add_late_help(parser: argparse.ArgumentParser, text: Callable[[], str]) -> None:
    """End the help with a text that takes long to make.

    Args:
        parser: Of the verb.
        text: Makes it; called only when the help is printed.
    """
    parser.epilog = _LateText("%(prog)s")
    parser.epilog.make = text
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def _settings_help() -> str:
    from deploy.commands._settings import help_text

    return help_text()


class _LateText(str):
    """Whatever `make` gives."""

    make: Callable[[], str]

    def __mod__(self, values: object) -> str:
        return self.make()

    def __bool__(self) -> bool:
        return True

"""A run's settings, checked as a start of the run would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.doctor.finding import Finding
from oapl.config import RunConfig
from oapl.config.toml import load_config
from oapl.errors import InputError, OaplError

if TYPE_CHECKING:
    from deploy.checks.preflight import PreflightReport

AREA = "recipe"


def read(recipe: Path | None, overrides: Sequence[str]) -> tuple[RunConfig | None, list[Finding]]:
    """Read the settings, or find what is wrong with them; neither where there is no recipe.

    Args:
        recipe: The file.
        overrides: `KEY=VALUE`, as for `oapl train`.
    """
    if recipe is None:
        return None, []
    try:
        return load_config(recipe, overrides), []
    except InputError as error:
        return None, list(_refused(recipe, error))


def look(recipe: Path, config: RunConfig | None, refused: list[Finding]) -> Iterator[Finding]:
    """Find what a start would find, where the settings can be read.

    Args:
        recipe: The file.
        config, refused: As `read` gave them.
    """
    yield Finding(area=AREA, name="file", found=str(recipe))
    if config is None:
        yield from refused
        return
    from deploy.checks.stages import look_at_run  # needs the very packages that may be missing

    try:
        reports = look_at_run(config)
    except OaplError as error:
        yield from _refused(recipe, error)
        return
    for report in reports:
        yield from _found(report)


def _found(report: PreflightReport) -> Iterator[Finding]:
    for name, text in report.facts.items():
        yield Finding(area=AREA, name=name, found=text)
    for note in report.notes:
        yield Finding(area=AREA, name="note", found=note, level="note")
    for what in report.unchecked:
        yield Finding(area=AREA, name="not checked", found=what, level="note")


def _refused(recipe: Path, error: Exception) -> Iterator[Finding]:
    for line in str(error).splitlines():
        if line.rstrip(":") != str(recipe):
            text, _, remedy = line.partition("; ")
            yield Finding(area=AREA, name="refused", found=text, level="wrong", remedy=remedy)

"""Every subject in its turn, and the exit code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from deploy.doctor import (
    devices,
    machine,
    network,
    pitfalls,
    ray_start,
    recipe_file,
    report,
    sandboxes,
    software,
    wandb_login,
)
from deploy.doctor.finding import Finding
from deploy.sizing.hardware import accelerators


def doctor(
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    start_ray: bool = False,
    screen: Console | None = None,
) -> int:
    """Look, and print.

    Args:
        recipe: A run's settings, to be checked too.
        overrides: `KEY=VALUE`, as for `oapl train`.
        start_ray: Start a local Ray and end it again.
        screen: Where to print.

    Returns:
        1 when a run could not start, else 0.
    """
    findings = list(examine(recipe, overrides, start_ray=start_ray))
    screen = screen or Console()
    if screen.is_terminal:
        screen.print(report.drawn(findings))
    else:
        for line in report.lines(findings):
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(any(finding.level == "wrong" for finding in findings))


def examine(
    recipe: Path | None = None, overrides: Sequence[str] = (), *, start_ray: bool = False
) -> Iterator[Finding]:
    """Look at every subject, in the order to be shown.

    Args:
        recipe: A run's settings, to be checked too.
        overrides: `KEY=VALUE`, as for `oapl train`.
        start_ray: Start a local Ray and end it again.
    """
    config, refused = recipe_file.read(recipe, overrides)
    cards = accelerators()
    device = config.cluster.device if config else next(iter(cards), "cpu")
    yield from software.look(device)
    yield from devices.look(cards, config)
    yield from machine.look()
    yield from network.look()
    yield from ray_start.look(start_ray)
    yield from wandb_login.look()
    yield from sandboxes.look()
    yield from pitfalls.look(os.environ, software.installed_versions())
    if recipe is not None:
        yield from recipe_file.look(recipe, config, refused)

"""The date that a chat template may ask for: a run has that of its first day, as long as it lasts.

Whoever reads the run's data must ask for it here first, since prompts that tell another day are
other data.
"""

from __future__ import annotations

import dataclasses
import datetime
import tomllib
from pathlib import Path

from oapl.config import RunConfig

TRAINING, EVALUATION, GENERATION = "config.toml", "eval.toml", "generate.toml"
"""What a run folder keeps of the settings, of each kind of run the last."""


def dated(config: RunConfig, *earlier: Path) -> RunConfig:
    """Fill in `data.date`: what the user wrote, else that of the first earlier file that has one,
    else today's.

    Args:
        config: The run.
        earlier: Files that these constants name; they need not exist.
    """
    found = [config.data.date, *map(_date_of, earlier), datetime.date.today().isoformat()]
    data = dataclasses.replace(config.data, date=next(filter(None, found)))
    return dataclasses.replace(config, data=data)


def as_resumed(config: RunConfig, checkpoint: Path | None) -> RunConfig:
    """The same with the date of the run that it goes on with.

    Args:
        config: The run.
        checkpoint: What it goes on from; None for the beginning.
    """
    before = config.folder if checkpoint is None else checkpoint.parents[1]
    return dated(config, before / TRAINING)


def _date_of(file: Path) -> str:
    try:
        return str(tomllib.loads(file.read_text())["data"]["date"])
    except (OSError, ValueError, KeyError):  # none there, or of an earlier oapl
        return ""

"""How long responses are: of stored groups, as given, or assumed."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oapl import groups_file
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.planning.lengths import Table, drawn, stored
from oapl.planning.rates import ASSUMED, GIVEN, MEASURED, Rate

MOST = 20_000
"""Stored groups that are read."""
MEAN_SHARE, SIGMA = 0.4, 0.6
"""Of the longest response the mean, and the spread of the logarithm, where nobody says."""
WRITTEN = re.compile(r"mean=(\d+(?:\.\d+)?)(?:,sigma=(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Lengths, how they are known, and the tokens of a prompt where they are known too."""

    table: Table
    mean: Rate
    prompt: Rate | None = None


def lengths_of(config: RunConfig, text: str, seed: int) -> Found:
    """Find them.

    Args:
        config: The run, for G and the longest response.
        text: `mean=4000,sigma=0.6`, or a set of stored groups, or a run folder; empty: assume.
        seed: Of what is drawn.

    Raises:
        InputError: It is neither, or the numbers cannot be.
    """
    limit, group_size = config.rollout.max_tokens, config.rollout.group_size
    if text and not WRITTEN.fullmatch(text):
        return _of_set(Path(text), group_size, limit, seed)
    given = WRITTEN.fullmatch(text)
    mean = float(given[1]) if given else MEAN_SHARE * limit
    sigma = float(given[2]) if given and given[2] else SIGMA
    if not 1 <= mean < limit or not 0 < sigma < 3:
        raise InputError(
            f"--lengths {text}: a mean lies from 1 to below rollout.max_tokens = {limit}, sigma "
            "above 0 and below 3"
        )
    why = f"lognormal, sigma {sigma:g}, cut at {limit}, each rollout by itself"
    kind = GIVEN if given else ASSUMED
    if not given:
        why = f"{MEAN_SHARE:g} of rollout.max_tokens; {why}"
    table = drawn(mean, sigma, limit, group_size, seed)
    return Found(table=table, mean=Rate(mean, kind, why))


def set_in(place: Path) -> Path | None:
    """Find the stored groups of a place: a set, or a run with one in it.

    Args:
        place: A folder.
    """
    places = (place, place / "rollouts", place / "groups")
    return next((one for one in places if groups_file.is_set(one)), None)


def _of_set(place: Path, group_size: int, limit: int, seed: int) -> Found:
    folder = set_in(place)
    if folder is None:
        raise InputError(
            f"--lengths {place}: holds no stored groups; name a set, a run with rollouts/ or "
            "groups/, or write mean=4000,sigma=0.6"
        )
    found, prompts = [], []
    for group in itertools.islice(groups_file.read(folder), MOST):
        found.append([min(len(rollout.token_ids), limit) for rollout in group.rollouts])
        prompts.append(len(group.prompt.token_ids))
    table = stored([[max(one, 1) for one in group] for group in found], group_size, seed)
    why = f"{len(found)} groups of {folder}"
    return Found(
        table=table,
        mean=Rate(table.mean, MEASURED, why),
        prompt=Rate(float(np.mean(prompts)), MEASURED, why),
    )

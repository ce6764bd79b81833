"""What a stage has of its recipe and makes no use of: taken back to its default.

A recipe says what most of its stages need. That a setting means nothing to the objective of one is
refused where that stage says it itself, as in a recipe without stages, and left out where it has it
from the recipe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from deploy.checks.plugins import OF_ENGINES, OF_SAMPLING, declared, source_of
from deploy.checks.stored import LIVE_ONLY
from oapl.config import RunConfig
from oapl.config.listing import fields
from oapl.config.sections import CriticSection, ReferenceSection, ReplaySection, RewardSection

Key = tuple[str, str]
"""Section and setting."""


def without_ignored(config: RunConfig, says: Collection[str]) -> RunConfig:
    """Leave out what a train stage has of its recipe and makes no use of.

    Args:
        config: The stage's.
        says: Dotted keys of the settings that the stage says itself.
    """
    default = RunConfig()
    for section, key in _ignored(config):
        name = f"{section}.{key}"
        if not any(said == name or said.startswith(f"{name}.") for said in says):
            theirs = getattr(getattr(default, section), key)
            ours = dataclasses.replace(getattr(config, section), **{key: theirs})
            config = dataclasses.replace(config, **{section: ours})
    return config


def _ignored(config: RunConfig) -> Iterator[Key]:
    source, needs = source_of(config), declared(config).needs
    if source != "live":
        yield from ((section, key) for section, _, keys in LIVE_ONLY for key in keys)
        yield "eval", "slots"
        if config.eval.engines != config.rollout.num_engines:
            yield "eval", "engines"
    if source == "examples":
        yield from _not_imitated(config)
    if "reference" not in needs:
        yield from (("reference", key) for key in fields(ReferenceSection))
    if "values" not in needs:
        yield from (("critic", key) for key in fields(CriticSection))


def _not_imitated(config: RunConfig) -> Iterator[Key]:
    is_evaluated = bool(config.eval.sources)
    sampling = OF_SAMPLING if is_evaluated else (*OF_ENGINES, *OF_SAMPLING)
    yield from (("rollout", key) for key in sampling)
    yield from (("replay", key) for key in fields(ReplaySection))
    if not is_evaluated:
        yield from (("reward", key) for key in fields(RewardSection))

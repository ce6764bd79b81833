"""Rules about what of a run is kept: its best checkpoint, and policies beside the last one."""

from __future__ import annotations

from collections.abc import Iterator

from oapl.config import RunConfig
from oapl.config.objective import source_of


def keeping_rules(config: RunConfig) -> Iterator[str]:
    """What must be set so that there is a best checkpoint, and passes whose end can be told."""
    checkpoint, evaluation = config.checkpoint, config.eval
    if checkpoint.models == "epochs" and source_of(config) == "live":
        yield (
            'checkpoint.models = "epochs": passes are told of examples and stored groups, and '
            'groups that engines make have none; set it to "all", or leave it out'
        )
    if not checkpoint.keep_best:
        return
    if not (evaluation.every_syncs and evaluation.sources):
        yield (
            "checkpoint.keep_best = true: compares evaluations, and none is made in mid-run; set "
            "eval.every_syncs and eval.sources, or leave it out"
        )
    elif not checkpoint.every_syncs or evaluation.every_syncs % checkpoint.every_syncs:
        yield (
            f"checkpoint.keep_best = true: with eval.every_syncs = {evaluation.every_syncs} and "
            f"checkpoint.every_syncs = {checkpoint.every_syncs} what is evaluated is of no "
            f"checkpoint; set checkpoint.every_syncs to 1 or {evaluation.every_syncs}"
        )
    if config.sync.max_lead:
        yield (
            f"checkpoint.keep_best = true: with sync.max_lead = {config.sync.max_lead} what is "
            "evaluated was published ahead and is of no checkpoint; leave one of the two out"
        )

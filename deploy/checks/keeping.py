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
    saved = checkpoint.every_syncs * config.sync.interval
    if not evaluation.is_in_mid_run:
        yield (
            "checkpoint.keep_best = true: compares evaluations, and none is made in mid-run; set "
            "eval.every_syncs (or every_steps) and eval.sources, or leave it out"
        )
    elif every := evaluation.every_syncs:
        if not saved or every % checkpoint.every_syncs:
            remedy = "1" if every == 1 else f"1 or {every}"
            yield (
                f"checkpoint.keep_best = true: with eval.every_syncs = {every} and "
                f"checkpoint.every_syncs = {checkpoint.every_syncs} what is evaluated is of no "
                f"checkpoint; set checkpoint.every_syncs to {remedy}"
            )
    elif not saved or evaluation.every_steps % saved:
        yield (
            f"checkpoint.keep_best = true: with eval.every_steps = {evaluation.every_steps} and a "
            f"checkpoint every {saved} steps (checkpoint.every_syncs times sync.interval) what is "
            "evaluated is of no checkpoint; evaluate at multiples of these"
        )
    if config.sync.max_lead:
        yield (
            f"checkpoint.keep_best = true: with sync.max_lead = {config.sync.max_lead} what is "
            "evaluated was published ahead and is of no checkpoint; leave one of the two out"
        )

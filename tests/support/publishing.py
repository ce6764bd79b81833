"""A publication of a trainer in one go, as `learner.group` asks for it in parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learner.trainer import Trainer
from oapl.errors import WeightsError
from oapl.records import WeightsVersion
from oapl.remote.promises import Resolved
from oapl.weights.base import layout


def export(trainer: Trainer, version: int) -> WeightsVersion | None:
    """Called on all ranks; rank 0 answers."""
    weights = trainer.announce(version)
    chunks: list[Any] = []
    failure: WeightsError | None = None
    for number in range(len(trainer.publisher.announced.chunks)):
        try:
            chunks.append(Resolved(trainer.send_chunk(number)))
        except WeightsError as error:  # the other ranks know nothing of it and go on
            failure = failure or error
    scores = Resolved(trainer.score_probe())
    if failure is not None:
        raise failure
    if weights is None:
        return None
    assert len(chunks) == len(layout(weights.specs))
    return replace(weights, chunks=tuple(chunks), probe_logprobs=scores)

"""A learner that goes on with another number of ranks, or at another ZeRO stage."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from learner.checkpoints.by_name import Pieces
from learner.shares import Stretch
from tests.support import layouts, ranks
from tests.support.exact import relative_error
from tests.support.makers import make_model

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1200)]

CHAIN = ((1, 1), (2, 3), (1, 2), (2, 0), (1, 0), (2, 1), (1, 3), (2, 2))
"""Ranks and stage of each life; with the first before it, every stage follows another one."""
BOUNDS = {"fp32": 1e-5, "bf16": 5e-3}
"""Of the parameters after four of Adam's steps: sums over ranks in another order."""


def everything(folder: Path) -> dict[str, torch.Tensor]:
    """All that a checkpoint says of a model, whoever wrote it: float32 of the optimizer too."""
    pieces = Pieces(folder / "policy", "model.path")
    found = {key: pieces.read(key, Stretch(0, pieces.size(key))) for key in pieces.written()}
    steps = {f"steps of {name}": torch.tensor(step) for name, step in pieces.steps.items()}
    return found | steps


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_moments_and_reference_go_on_bit_for_bit_whatever_the_layout(
    tmp_path: Path, precision: str
):
    model = make_model(tmp_path / "model")
    config = ranks.grpo_config(model, precision=precision)
    config = replace(config, objective={**config.objective, "kl_coefficient": 0.1})
    came: Path | None = None
    with layouts.processes(1) as one, layouts.processes(2) as two:
        first: dict | None = None
        for number, (num_ranks, stage) in enumerate(CHAIN):
            went = tmp_path / f"checkpoint-{number}"
            here = replace(config, learner=replace(config.learner, zero_stage=stage))
            found = (one if num_ranks == 1 else two).live(here, came, went)
            if first is None:
                first, expected = found, everything(went)
                kinds = {key.partition("|")[0] for key in expected}
                assert {"weight", "exp_avg", "exp_avg_sq", "set.reference"} <= kinds
            kept = everything(went)
            assert kept.keys() == expected.keys()
            differing = [key for key in kept if not torch.equal(kept[key], expected[key])]
            assert not differing, f"{num_ranks} ranks at stage {stage}: {differing[:5]}"
            for name, weight in first["weights"].items():
                assert torch.equal(found["weights"][name], weight), name
            away = relative_error(found["after"], first["after"])
            print(f"{precision}, {num_ranks} ranks at stage {stage}: parameters {away:.1e}")
            assert away < BOUNDS[precision]
            came = went

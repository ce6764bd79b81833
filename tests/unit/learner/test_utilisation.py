"""Model FLOPs utilisation: the operations by hand, the peaks by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from learner.utilisation import Utilisation, multiplied_parameters, peak
from oapl.batching import Packable, pack
from oapl.config import RunConfig
from oapl.devices._peaks import peak_of
from oapl.records import Batch

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """Two layers' worth of shape, and a few parameters."""

    def __init__(self, *, tied: bool = False, **shape: Any) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
        self.body = nn.Linear(8, 8, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
        sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 8, **shape}
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**sizes))

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def batch(*lengths: int) -> Batch:
    made = [
        Packable(
            prompt_ids=np.array([1, 2], np.int32),
            response_ids=np.arange(3, 1 + length, dtype=np.int32),
        )
        for length in lengths
    ]
    packed = pack(made, micro_batch_tokens=64, row_tokens=0)
    return Batch(
        micro_batches=tuple(packed),
        step=0,
        temperature=1.0,
        global_rollouts=len(lengths),
        global_tokens=sum(lengths),
    )


def config(tflops: float = 1e-6) -> RunConfig:
    return RunConfig(cluster={"peak_tflops": tflops})  # type: ignore[arg-type]


def test_a_table_of_embeddings_is_looked_up_and_not_multiplied():
    assert multiplied_parameters(Tiny()) == 8 * 50 + 8 * 8
    assert multiplied_parameters(Tiny(tied=True)) == 8 * 50 + 8 * 8


def test_the_operations_are_those_of_the_parameters_and_of_the_attention():
    made = Utilisation(config(), Tiny(), CPU)
    parameters, attention = 8 * 50 + 8 * 8, 2 * 4 * 2  # layers, heads, width of a head
    expected = 6 * parameters * (5 + 9) + 6 * attention * (25 + 81)
    assert made.operations(batch(5, 9)) == expected
    share = made.share(expected, seconds=0.5, num_ranks=2)
    assert share == {"perf/mfu": pytest.approx(expected / (0.5 * 2 * 1e6))}


def test_without_a_peak_or_with_experts_there_is_no_figure():
    for made in (
        Utilisation(config(0.0), Tiny(), CPU),
        Utilisation(config(), Tiny(num_experts=8), CPU),
    ):
        assert made.operations(batch(5)) == 0.0
        assert made.share(1.0, 1.0, 1) == {}


def test_the_peak_is_the_settings_or_that_of_a_known_card():
    assert peak(config(100.0), CPU) == 100e12
    assert peak(config(0.0), CPU) is None


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_cards_are_known_by_their_names(card, expected):
    assert peak_of(card) == expected

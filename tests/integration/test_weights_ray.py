"""The object-store transport over a real Ray."""

import numpy as np
import pytest
import torch

from oapl.records import Probe
from oapl.weights import object_store
from oapl.weights.base import send

pytestmark = pytest.mark.integration
PROBE = Probe(token_ids=(np.arange(3, dtype=np.int32),), logprobs=(np.zeros(2, np.float32),))


def test_weights_reach_another_process_unchanged(ray_cluster):
    sent = {
        f"layer.{i}": torch.randn(33, 7).to(d)
        for i, d in enumerate([torch.float32, torch.bfloat16] * 4)
    }
    weights = send(object_store.Sender(), 1, iter(sent.items()), PROBE)

    @ray_cluster.remote
    def receive(weights):
        received = object_store.Receiver(timeout_s=300).receive(weights)
        return {name: (str(t.dtype), t.double().sum().item()) for name, t in received}

    sums = ray_cluster.get(receive.remote(weights), timeout=300)
    assert sums == {name: (str(t.dtype), t.double().sum().item()) for name, t in sent.items()}


def test_old_versions_leave_the_store(ray_cluster):
    sender, size = object_store.Sender(), 32 * 2**20
    for version in range(20):  # 640 MiB in all: more than the store holds
        weights = send(
            sender, version, iter([("a", torch.full((size // 4,), float(version)))]), PROBE
        )
        ((_, tensor),) = object_store.Receiver(timeout_s=300).receive(weights)
        assert tensor[-1] == version
        del tensor

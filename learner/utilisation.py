"""Which share of what its devices can do the learner uses: model FLOPs utilisation (MFU).

Counted are the operations that the gradient of a step needs, whatever is computed beside them:
recomputed activations, other policies' passes and a critic are none of it. Invariant: where the
device's peak is not known, or not the model's share of parameters that a token meets (experts),
there is no figure.

Source: PaLM, arXiv 2204.02311, appendix B: 6 N operations a token for N parameters, and
12 L H Q T for the attention of L layers to T tokens, H Q wide; here halved, since a token attends
only to what stands before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from oapl.config import RunConfig
from oapl.devices._peaks import peak_of
from oapl.records import Batch

TERA = 1e12
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


class Utilisation:
    """Knows the model and the device.

    Args:
        config: The run's.
        language_model: From `transformers`; its parameters may be sharded.
        device: Of this rank.
    """

    def __init__(self, config: RunConfig, language_model: Any, device: torch.device) -> None:
        shape = language_model.config.get_text_config()
        self._peak = peak(config, device)
        if any(getattr(shape, key, None) for key in EXPERTS):
            self._peak = None
        self._parameters = multiplied_parameters(language_model)
        heads = int(getattr(shape, "num_attention_heads", 0))
        size = getattr(shape, "head_dim", None) or shape.hidden_size // max(heads, 1)
        self._attention = int(shape.num_hidden_layers) * heads * int(size)

    def operations(self, batch: Batch) -> float:
        """Count what the gradient of this rank's share needs; 0 where no peak is known.

        Args:
            batch: Whose dummies do not count.
        """
        if self._peak is None:
            return 0.0
        total = 0.0
        for micro_batch in batch.micro_batches:
            if not micro_batch.is_dummy:
                owners = micro_batch.rollout_index[micro_batch.rollout_index >= 0]
                lengths = np.bincount(owners).astype(np.float64)
                total += 6.0 * self._parameters * lengths.sum()
                total += 6.0 * self._attention * (lengths**2).sum()
        return total

    def share(self, operations: float, seconds: float, num_ranks: int) -> dict[str, float]:
        """Tell the share.

        Args:
            operations: Of all ranks.
            seconds: They took.
            num_ranks: Each with one device.

        Returns:
            `perf/mfu`; nothing where no peak is known.
        """
        if self._peak is None:
            return {}
        return {"perf/mfu": operations / (seconds * num_ranks * self._peak)}


def peak(config: RunConfig, device: torch.device) -> float | None:
    """Tell the most operations per second of a device; None where nobody knows.

    Args:
        config: May say it.
        device: Else its name does.
    """
    if config.cluster.peak_tflops:
        return config.cluster.peak_tflops * TERA
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def multiplied_parameters(language_model: Any) -> int:
    """Count the parameters that a token is multiplied with: all, but for a table of embeddings that
    is not the output layer too.

    Args:
        language_model: From `transformers`; at ZeRO stage 3 a parameter tells its whole size.
    """
    total = sum(getattr(p, "ds_numel", p.numel()) for p in language_model.parameters())
    inputs, outputs = (
        language_model.get_input_embeddings(),
        language_model.get_output_embeddings(),
    )
    if outputs is not None and outputs.weight is inputs.weight:
        return total
    return total - getattr(inputs.weight, "ds_numel", inputs.weight.numel())

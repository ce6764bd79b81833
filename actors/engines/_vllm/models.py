"""What vLLM does to models that others in its process, or its own next load, would trip over.

Imported only where vLLM is.
"""

from __future__ import annotations

import contextlib
from typing import Any


def leave_classes_alone() -> None:
    """Keep vLLM from changing classes of transformers, for engines that compile nothing.

    It serves some types (GPT-NeoX, OLMo2) by transformers' own class, which it prepares for
    torch.compile in the whole process: whoever makes such a model there later, as the learner does
    with `cluster.mode = "local"`, is asked for vLLM's configuration.
    """
    with contextlib.suppress(ImportError):  # older versions have no such module, or no such method
        from vllm.model_executor.models.transformers.base import Base

        Base._decorate_cls_for_torch_compile = lambda *args, **kwargs: None


def repack_tied_heads(model: Any) -> int:
    """Pack the weights of embeddings and output heads for the CPU kernels once more.

    Returns:
        How many modules had a packed copy; 0 away from CPU.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    count = 0
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
            count += 1
    return count


def repack_experts(model: Any) -> int:
    """Pack the weights of experts for the CPU kernels, which vLLM 0.32 does at the first load
    alone: later ones would be read as if they were packed.

    Returns:
        How many layers of experts were packed; 0 away from CPU.
    """
    count = 0
    for module in model.modules():
        kernel = getattr(getattr(module, "quant_method", None), "moe_kernel", None)
        weight = getattr(module, "w13_weight", None)
        if kernel is not None and weight is not None and weight.device.type == "cpu":
            kernel.fused_experts.process_weights_after_loading(module)
            count += 1
    return count

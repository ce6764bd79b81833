"""How much of a table of logits ever exists, forward and backward, whoever computes it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTable(TorchDispatchMode):
    """Watches for tensors as wide as the vocabulary; the output layer itself is none.

    Attributes:
        rows: Most rows of one.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.rows = 0
        self._vocab_size = vocab_size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        is_view = func is torch.ops.aten.t.default  # of the output layer
        if (
            isinstance(made, torch.Tensor)
            and not is_view
            and made.shape[-1:] == (self._vocab_size,)
        ):
            self.rows = max(self.rows, made.numel() // self._vocab_size)
        return made

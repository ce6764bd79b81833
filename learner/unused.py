"""Parameters that a learner step did not use: they stand still.

An expert that no token was sent to, or a part of the model that only other inputs reach, has no
gradient. DeepSpeed gives AdamW zeros in its place, with which it would decay and be carried on by
its moments. Invariants: what no rank used in a step has the weights and moments of before, at every
ZeRO stage; Adam's count of steps is the optimizer's, as it is wherever a stage lays parameters into
one tensor. Ranks that use different parameters are added up at stage 0 only: stage 1 would let
gloo abort the process (DeepSpeed 0.19.8) and is refused here; stages 2 and 3 reduce in backward
already, stage 3 gathers in forward, where such ranks abort or wait for one another: a model that
can bring this about is refused as a rank starts (`learner.trial`), and what gets by that, in the
step that finds it, before a weight has changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from learner.shares import share_of
from oapl.errors import InputError


class Unused:
    """Watches which parameters backward passes reach, and holds the others through a step.

    Args:
        inner: DeepSpeed's engine, without hooks of ours so far.
        adam: The optimizer that it steps.
    """

    def __init__(self, inner: Any, adam: torch.optim.Optimizer) -> None:
        self._inner = inner
        self._adam = adam
        named = [(name, p) for name, p in inner.module.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._used: set[nn.Parameter] = set()
        self._held: list[tuple[Tensor, Tensor]] = []
        for parameter in self._parameters:
            parameter.register_post_accumulate_grad_hook(self._used.add)
        adam.register_step_post_hook(self._put_back)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the optimizer steps: what was not used since the last time stands still.

        Raises:
            InputError: Ranks used different parameters, and this stage cannot add those up.
        """
        parts = [part for parameter in self._unused() for part in self._parts(parameter)]
        self._held = [(part, part.clone()) for part in parts]
        try:
            yield
        finally:
            self._held = []
            self._used.clear()

    def _unused(self) -> list[nn.Parameter]:
        ranks = torch.distributed.get_world_size()
        uses = [int(parameter in self._used) for parameter in self._parameters]
        if ranks > 1:
            everywhere = torch.tensor(uses, device=self._inner.device)
            torch.distributed.all_reduce(everywhere)
            uses = everywhere.tolist()
        stage = self._inner.zero_optimization_stage()
        differing = [name for name, n in zip(self._names, uses, strict=True) if 0 < n < ranks]
        if differing and stage:
            raise InputError(
                f"learner.zero_stage = {stage}: {len(differing)} parameters of the model got a "
                f"gradient on some ranks only ({', '.join(differing[:3])}), which needs stage 0; "
                "set learner.zero_stage = 0, or learner.num_ranks = 1"
            )
        return [p for p, n in zip(self._parameters, uses, strict=True) if not n]

    def _parts(self, parameter: Any) -> list[Tensor]:
        """Of what AdamW steps on this rank: the parameter's share, and its moments."""
        share = share_of(self._inner.optimizer, parameter)
        state = self._adam.state.get(share.owner, {})
        moments = [state[name] for name in ("exp_avg", "exp_avg_sq") if name in state]
        return [share.of(tensor) for tensor in (share.owner, *moments)]

    def _put_back(self, *_: Any) -> None:
        """Before DeepSpeed makes the model's weights of what AdamW has stepped."""
        for part, before in self._held:
            part.copy_(before)

"""A vLLM engine beside the transformers model that publishes to it: what engine tests compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from actors.engines.base import ENGINES
from oapl.config import RunConfig
from oapl.records import Probe, ProbeReport, Prompt, Rollout, Sampling, WeightsVersion
from oapl.weights.base import TRANSPORTS, send


class EngineUnderTest:
    """The engine, and a "learner" whose weights change at random."""

    def __init__(
        self,
        path: Path,
        *,
        host: str = "vllm_inprocess",
        index: int = 0,
        degree: int = 1,
        transport: str = "local",
        **options: object,
    ) -> None:
        self.host = host
        self.config = RunConfig(
            model={"path": str(path), "dtype": "float32"},
            rollout={
                "engine": host,
                "engine_options": options,
                "context_tokens": 256,
                "tensor_parallel_size": degree,
            },
            sync={"transport": transport, "timeout_s": 600},
        )
        ends = TRANSPORTS.load(transport)
        self.engine = ENGINES.load(host).build(
            self.config, receiver=ends.build_receiver(self.config), index=index
        )
        self.sender = ends.build_sender(self.config)
        self.learner = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self._first = [p.detach().clone() for p in self.learner.parameters()]
        self.step = 0
        self._is_away = False
        self._generator = torch.Generator().manual_seed(index)

    def train(self) -> None:
        """One "learner step": every parameter moves by a visible amount, about where it began."""
        with torch.no_grad():
            for parameter, first in zip(self.learner.parameters(), self._first, strict=True):
                noise = torch.randn(parameter.shape, generator=self._generator)
                parameter.copy_(first + 0.02 * noise)
        self.step += 1

    def publication(self, **replaced: torch.Tensor | None) -> WeightsVersion:
        """The learner's weights as they are, but for tensors replaced, added or (None) left out.

        A keyword stands for the name with `__` in place of dots.
        """
        tensors = dict(self.learner.named_parameters())
        for key, tensor in replaced.items():
            name = key.replace("__", ".")
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor
        return send(self.sender, self.step, iter(tensors.items()), self.probe())

    async def publish(self) -> ProbeReport:
        return await self.engine.load(self.publication())

    def probe(self, lengths: Sequence[int] = (2, 17, 40, 256)) -> Probe:
        sequences = [self._random_ids(length) for length in lengths]
        return Probe(
            token_ids=tuple(sequences), logprobs=tuple(self.logprobs(ids) for ids in sequences)
        )

    def prompt(self, length: int = 12) -> Prompt:
        return prompt_of(self._random_ids(length))

    @torch.no_grad()
    def logits(self, token_ids: np.ndarray) -> torch.Tensor:
        """float32 [T, V]."""
        return self.learner(torch.from_numpy(token_ids).long()[None]).logits[0].float()

    def logprobs(self, token_ids: np.ndarray) -> np.ndarray:
        """ln pi of tokens 1 to T - 1, float32."""
        chosen = torch.from_numpy(token_ids[1:]).long()[:, None]
        table = self.logits(token_ids)[:-1].log_softmax(-1)
        return table.gather(1, chosen)[:, 0].numpy()

    def error(self, prompt: Prompt, rollout: Rollout) -> float:
        """Largest |engine - learner| over the rollout's tokens, nats."""
        whole = np.concatenate([prompt.token_ids, rollout.token_ids])
        expected = self.logprobs(whole)[len(prompt.token_ids) - 1 :]
        return float(np.abs(expected - rollout.inference_logprobs).max())

    def draining(self) -> RunConfig:
        """What the engine's configuration is where loads drain."""
        return replace(self.config, sync=replace(self.config.sync, in_flight="drain"))

    async def sample(self, prompt: Prompt, count: int, **sampling: float) -> list[Rollout]:
        import asyncio

        kind = Sampling(**{"max_tokens": 48, **sampling})
        return await asyncio.gather(*(self.engine.generate(prompt, kind) for _ in range(count)))

    def in_flight(self) -> int:
        """Requests that the engine still works on."""
        if self.host == "vllm_async":
            return len(self.engine._in_flight)
        thread = self.engine._thread
        return thread.call(lambda: len(thread._active)).result(300)

    def leave(self) -> None:
        """End an in-process engine until `come_back`."""
        if not self._is_away:
            thread = self.engine._thread
            thread.call(thread._shut_down).result(300)
            self._is_away = True

    async def come_back(self) -> None:
        if self._is_away:
            await self.engine.rebuild()
            self._is_away = False

    def close(self) -> None:
        self.engine.close()
        self.sender.close()

    def _random_ids(self, length: int) -> np.ndarray:
        return torch.randint(3, 100, (length,), generator=self._generator).numpy().astype(np.int32)


def prompt_of(token_ids: np.ndarray, name: str = "test:0@0") -> Prompt:
    return Prompt(id=name, text="", token_ids=token_ids, verifiers={}, reference={}, source="test")

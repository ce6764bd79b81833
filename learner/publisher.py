"""One rank's part in a publication: announced, sent in chunks, and scored on a probe.

Invariants: every method is called on all ranks together, and each gathers the same parameters in
the same order; rank 0 alone casts and sends; the parameters are read chunk by chunk when they are
asked for, so whoever asks keeps the learner from its next step until the last answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from learner import export, probing
from learner.forward import logprobs_of
from learner.zero_engine import ZeroEngine
from oapl.config import RunConfig
from oapl.interfaces import WeightSender
from oapl.records import Batch, Sent, WeightsVersion
from oapl.remote.promises import Resolved
from oapl.weights.base import Chunk, layout, send_chunk


@dataclass(frozen=True, slots=True)
class Announced:
    """What is being published.

    Attributes:
        version: Learner step of the weights.
        chunks: How the tensors lie in what is sent.
        parameters: Those of all chunks, in their order.
        probe_ids: Sequences to score, int32 [T] each.
    """

    version: int
    chunks: tuple[Chunk, ...]
    parameters: tuple[torch.nn.Parameter, ...]
    probe_ids: tuple[np.ndarray, ...]

    def parameters_of(self, number: int) -> tuple[torch.nn.Parameter, ...]:
        """The parameters that lie in one chunk."""
        first = sum(len(chunk.specs) for chunk in self.chunks[:number])
        return self.parameters[first : first + len(self.chunks[number].specs)]


class Publisher:
    """Hands the policy of a rank to the engines; `oapl.interfaces.Trainer` names the calls.

    Attributes:
        announced: What was announced last.
        sender: Where the weights go; None on ranks other than 0.
    """

    def __init__(
        self, config: RunConfig, *, engine: ZeroEngine, sender: WeightSender | None
    ) -> None:
        self._config = config
        self._engine = engine
        self.sender = sender
        self.announced = Announced(-1, (), (), ())
        self._buffer = np.empty(0, dtype=np.uint8)  # fresh pages cost more than casting

    def announce(
        self, version: int, latest: Batch | None, is_aside: bool = False
    ) -> WeightsVersion | None:
        """Say what the parameters will be published as: nothing is read of them yet.

        Args:
            version: Learner step of the weights.
            latest: The batch trained on last, of which the probe is chosen; rank 0's counts.
            is_aside: It is for engines set aside for evaluations alone.

        Returns:
            The publication, its chunks and scores still to come; None on ranks other than 0.

        Raises:
            WeightsError: The transport cannot begin (on rank 0).
        """
        specs, parameters = export.to_publish(self._engine.module.lm, self._config.model.dtype)
        probe_ids = self._choose_probe(version, latest)
        self.announced = Announced(version, layout(specs), parameters, probe_ids)
        if self.sender is None:
            return None
        self.sender.begin(version, specs, is_aside)
        return WeightsVersion(
            version=version,
            specs=specs,
            transport=self.sender.transport,
            probe_ids=probe_ids,
            chunks=(),
            probe_logprobs=Resolved(()),
        )

    def send_chunk(self, number: int) -> Sent | None:
        """Cast one chunk of what was announced to the engines' dtype, and send it.

        Returns:
            Its ticket; None on ranks other than 0, which only take part in the gathering.

        Raises:
            WeightsError: A parameter is not finite, or the transport failed (on rank 0).
        """
        chunk, parameters = self.announced.chunks[number], self.announced.parameters_of(number)
        if self.sender is None:
            export.read(parameters, chunk, None)
            return None
        if self._buffer.nbytes < chunk.num_bytes:
            self._buffer = np.empty(chunk.num_bytes, dtype=np.uint8)
        content = self._buffer[: chunk.num_bytes]
        export.read(parameters, chunk, content)
        return send_chunk(self.sender, self.announced.version, number, chunk, content)

    def score_probe(self) -> tuple[np.ndarray, ...]:
        """Score the announced sequences at temperature 1, in rows as an update's.

        Returns:
            ln pi of each sequence's tokens 1 to T - 1, float32 [T - 1].
        """
        token_ids = self.announced.probe_ids
        logprobs = [np.empty(0, dtype=np.float32)] * len(token_ids)
        limits = self._config.learner.micro_batch_tokens, self._config.learner.row_tokens
        with self._engine.evaluating():
            for micro_batch in probing.packed(token_ids, *limits):
                scores, _ = logprobs_of(self._engine, micro_batch, temperature=1.0)
                found = scores.cpu().numpy()
                owner = micro_batch.rollout_index[micro_batch.response_mask]
                for rollout, number in enumerate(micro_batch.group_index):
                    logprobs[number] = found[owner == rollout]
        return tuple(logprobs)

    def _choose_probe(self, version: int, latest: Batch | None) -> tuple[np.ndarray, ...]:
        """Rank 0's choice, on all ranks."""
        chosen = [
            probing.sequences(
                latest,
                self._config.sync.probe_sequences,
                vocab_size=self._engine.module.lm.config.get_text_config().vocab_size,
                version=version,
            )
        ]
        torch.distributed.broadcast_object_list(chosen, src=0)
        return tuple(chosen[0])

"""What an objective asks of other policies than the one being updated, token by token.

Computed once per iteration, forward only, packed as the updates will be: the policy before the
first update (`proximal`), the one that sampled (`sampler`), the reference, and the policy before
the last iteration (`previous`). Invariants: an objective that asks for none of them costs nothing,
here or in memory; all ranks make the same passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from learner.forward import logprobs_of
from learner.models.frozen import FrozenPolicies
from learner.zero_engine import ZeroEngine
from oapl.records import Batch

PROXIMAL, REFERENCE, PREVIOUS, SAMPLER = "proximal", "reference", "previous", "sampler"


class Preparation:
    """Keeps what was computed for the iteration under way.

    Args:
        engine: The policy.
        frozen: Its copies.
        policies: What scores, of `oapl.config.objective.scored_before`.
        kept_samplers: Newest published policies whose groups may still be trained on.
    """

    def __init__(
        self,
        engine: ZeroEngine,
        frozen: FrozenPolicies,
        policies: Sequence[str],
        kept_samplers: int = 1,
    ) -> None:
        self._kept_samplers = kept_samplers
        self._engine = engine
        self._frozen = frozen
        self._policies = policies
        self._found: dict[int, list[dict[str, Tensor]]] = {}
        if REFERENCE in self._policies:
            frozen.copy(REFERENCE)

    def compute(self, batches: Sequence[Batch]) -> None:
        """Score the tokens of an iteration.

        Args:
            batches: This rank's share of each mini-batch.
        """
        self._found = {b.mini_batch: [{} for _ in b.micro_batches] for b in batches}
        if PREVIOUS in self._policies and PREVIOUS not in self._frozen.names:
            self._frozen.copy(PREVIOUS)
        for name in self._policies:
            for batch in batches:
                with self._standing_in(name, batch):
                    for index, micro_batch in enumerate(batch.micro_batches):
                        scores, _ = logprobs_of(
                            self._engine, micro_batch, temperature=batch.temperature
                        )
                        self._found[batch.mini_batch][index][name] = scores
        if PREVIOUS in self._policies:
            self._frozen.copy(PREVIOUS)

    def of(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """What was computed for a micro-batch: log-probs [N] by policy; nothing if nothing was."""
        found = self._found.get(batch.mini_batch)
        return {} if found is None else found[index]

    def published(self, version: int) -> None:
        """Keep the policy that will sample under `version`, if the objective asks for it."""
        if SAMPLER not in self._policies:
            return
        self._frozen.copy(f"{SAMPLER}-{version}")
        samplers = [name for name in self._frozen.names if name.startswith(f"{SAMPLER}-")]
        for name in samplers[: -self._kept_samplers]:
            self._frozen.drop(name)

    def reset_reference(self) -> None:
        """Make the present policy the reference."""
        self._frozen.copy(REFERENCE)

    @contextmanager
    def _standing_in(self, name: str, batch: Batch) -> Iterator[None]:
        if name == SAMPLER:
            name = f"{SAMPLER}-{batch.step - int(batch.micro_batches[0].lag[0])}"
        with self._engine.evaluating():
            if name == PROXIMAL:
                yield
            else:
                with self._frozen.in_place(name):
                    yield

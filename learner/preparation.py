"""What an objective asks for before an iteration's first update, token by token.

Computed once per iteration, forward only, packed as the updates will be: log-probs of the policy
before the first update (`proximal`), of the one that sampled (`sampler`), of the reference and of
the policy before the last iteration (`previous`); the critic's values; and credit per token, which
the objective makes of all these. Invariants: an objective that asks for none of them costs nothing,
here or in memory; all ranks make the same passes and the same collective calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from learner.forward import logprobs_of, values_of
from learner.inputs import PROXIMAL, inputs_of
from learner.measures import Measures
from learner.models.frozen import FrozenPolicies
from learner.zero_engine import ZeroEngine
from oapl.config import RunConfig
from oapl.config.objective import kept_samplers, samples, scored_before
from oapl.interfaces import Objective, TokenCredited
from oapl.records import Batch, LossInputs, Metrics

REFERENCE, PREVIOUS, SAMPLER = "reference", "previous", "sampler"
Found = dict[str, Any]
"""Fields of `LossInputs` of one micro-batch, by name."""


class Preparation:
    """Keeps what was computed for the iteration under way.

    Args:
        config: The run's.
        engine: The policy.
        frozen: Its copies.
        objective: Says what it needs, and credits tokens.
        critic: None where the objective needs no values.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: ZeroEngine,
        frozen: FrozenPolicies,
        objective: Objective,
        critic: ZeroEngine | None = None,
    ) -> None:
        self._engine = engine
        self._frozen = frozen
        self._objective = objective
        self._critic = critic
        self._needs = objective.declares.needs
        self._steps_per_take = config.steps_per_take
        self._policies = scored_before(self._needs, config.steps_per_take)
        self._kept_samplers = kept_samplers(config)
        self._found: dict[int, list[Found]] = {}
        self._is_live = samples(config)
        if REFERENCE in self._policies:
            frozen.copy(REFERENCE)
        if SAMPLER in self._policies and not self._is_live:  # a set's, which this run starts from
            frozen.copy(f"{SAMPLER}-0")

    def compute(self, batches: Sequence[Batch]) -> Metrics:
        """Score, value and credit the tokens of an iteration.

        Args:
            batches: This rank's share of each mini-batch.

        Returns:
            What is known of the critic, of all ranks: `critic/explained_variance`.
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
        if self._critic is not None:
            self._value(self._critic, batches)
        return self._credit(batches) if "token_credit" in self._needs else {}

    def inputs(
        self,
        batch: Batch,
        index: int,
        counts: tuple[float, float] | None = None,
        *,
        logprobs: Tensor | None = None,
        **computed: Any,
    ) -> LossInputs:
        """Put together what the objective sees of a micro-batch; see `inputs_of`.

        Args:
            batch, index, counts, logprobs, computed: As there; float32 [N] log-probs.
        """
        found = self._found.get(batch.mini_batch)
        return inputs_of(
            batch,
            index,
            device=self._engine.device,
            iteration=batch.step // self._steps_per_take,
            prepared={} if found is None else found[index],
            counts=counts,
            logprobs=logprobs,
            **computed,
        )

    def published(self, version: int) -> None:
        """Keep the policy that will sample under `version`, if the objective asks for it."""
        if SAMPLER not in self._policies or not self._is_live:
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

    def _value(self, critic: ZeroEngine, batches: Sequence[Batch]) -> None:
        with critic.evaluating():
            for batch in batches:
                for micro_batch, found in zip(
                    batch.micro_batches, self._found[batch.mini_batch], strict=True
                ):
                    found["old_values"] = values_of(critic, micro_batch)

    def _credit(self, batches: Sequence[Batch]) -> Metrics:
        """Let the objective credit the tokens, and measure that over all ranks; no dummy counts."""
        measures = Measures()
        credited: list[Found] = []
        for batch in batches:
            for index, micro_batch in enumerate(batch.micro_batches):
                if not micro_batch.is_dummy:
                    credited.append(self._found[batch.mini_batch][index])
                    self._credit_one(self.inputs(batch, index), credited[-1], measures)
        spread = measures.reduced()
        for found in credited:
            found["token_credit_mean"] = spread["advantage_mean"]
            found["token_credit_std"] = spread["advantage_std"]
        if not spread.get("return_std"):  # returns that are all equal explain nothing
            return {}
        unexplained = (spread["error_std"] / spread["return_std"]) ** 2
        return {"critic/explained_variance": 1.0 - unexplained}

    @torch.no_grad()
    def _credit_one(self, inputs: LossInputs, found: Found, measures: Measures) -> None:
        credit = cast(TokenCredited, self._objective).token_credit(inputs)
        found["token_credit"] = credit
        measures.add({"advantage_*": credit.advantage})
        if credit.returns is not None and inputs.old_values is not None:
            error = credit.returns - inputs.old_values
            measures.add({"return_*": credit.returns, "error_*": error})

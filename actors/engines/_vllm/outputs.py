"""vLLM's outputs as records. Touches attributes only, so that it imports without vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oapl.errors import EngineError
from oapl.records import FinishReason, Rollout

INITIAL_VERSION = -1
"""Before the first load; vLLM calls it `default`."""


@dataclass(frozen=True, slots=True)
class Output:
    """The part of vLLM's `CompletionOutput` that a rollout is made of."""

    token_ids: Sequence[int]
    logprobs: Any
    weight_versions: Any = None


NO_OUTPUT = Output((), None)


def partial_output(state: Any) -> Output:
    """Take what a request in flight has got, which vLLM's own abort throws away."""
    return Output(state.detokenizer.output_token_ids, state.logprobs_processor.logprobs)


def whole_ids(output: Any, begun: Rollout | None) -> list[int]:
    """Give all token ids of a response.

    Args:
        output: See `to_rollout`.
        begun: Those that another engine has sampled; None: none.
    """
    return [*(() if begun is None else begun.token_ids.tolist()), *output.token_ids]


def to_rollout(
    output: Any, reason: FinishReason, text: str, version: int, begun: Rollout | None = None
) -> Rollout:
    """Make a record of vLLM's output.

    Args:
        output: vLLM's `CompletionOutput`, or an `Output`.
        reason: Why it ended.
        text: All its tokens decoded.
        version: The engine's, where vLLM reports none (before 0.32).
        begun: What another engine has sampled of it; None: nothing.

    Raises:
        EngineError: There are not as many log-probs as tokens.
    """
    token_ids = np.array(output.token_ids, dtype=np.int32)
    logprobs = np.array(output.logprobs.logprobs if output.logprobs else (), dtype=np.float32)
    if len(logprobs) != len(token_ids):
        raise EngineError(f"{len(logprobs)} log-probs came for {len(token_ids)} sampled tokens")
    spans = getattr(output, "weight_versions", None)
    first, last = (spans[0].version, spans[-1].version) if spans else (version, version)
    if begun is not None:
        first, last = begun.first_version, last if len(token_ids) else begun.last_version
        token_ids = np.concatenate([begun.token_ids, token_ids])
        logprobs = np.concatenate([begun.inference_logprobs, logprobs])  # type: ignore[arg-type]
    return Rollout(
        token_ids=token_ids,
        inference_logprobs=logprobs,
        finish_reason=reason,
        text=text,
        first_version=_number(first),
        last_version=_number(last),
    )


def _number(version: str | int) -> int:
    """vLLM labels the weights it started with `default`."""
    return INITIAL_VERSION if version == "default" else int(version)

"""Rollouts that another engine has begun: how vLLM is asked to go on, and whether it agrees.

The tokens so far are sent behind the prompt, so that their KV is made again. Where the sampled
distribution is the plain softmax, vLLM tells its own log-probs of them too, which are compared with
those recorded: a rollout is never half of one policy and half of another, nor of engines that
compute differently. Touches attributes only, so that it imports without vLLM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from actors.engines import base
from actors.engines._vllm import inputs
from oapl.counters import Counters
from oapl.records import Prompt, Rollout, Sampling

LEAST_COMPARED = 16
"""Tokens; of fewer a mean says little in half precision."""


def token_ids(prompt: Prompt, begun: Rollout | None) -> list[int]:
    """Give what vLLM goes on from.

    Args:
        prompt: Its token ids, int32 [T].
        begun: The tokens so far; None: none.
    """
    ids: list[int] = prompt.token_ids.tolist()
    return ids if begun is None else ids + begun.token_ids.tolist()


def params(sampling: Sampling, begun: Rollout | None) -> Any:
    """Give vLLM's sampling parameters for what is left.

    Args:
        sampling: Of the whole rollout.
        begun: Its tokens so far; None: none.
    """
    if begun is None:
        return inputs.rollout_params(sampling)
    left = replace(sampling, max_tokens=sampling.max_tokens - len(begun.token_ids))
    return inputs.rollout_params(left, is_scored=sampling.is_plain)


def agrees(begun: Rollout, answer: Any, bound: float, counters: Counters) -> bool:
    """Tell whether the log-probs recorded so far are this engine's, as far as it told its own.

    Args:
        begun: The tokens so far.
        answer: vLLM's final output.
        bound: Largest mean exp(|difference|).
        counters: Where a disagreement is counted.
    """
    told = getattr(answer, "prompt_logprobs", None)
    count = len(begun.token_ids)
    if told is None or count < LEAST_COMPARED:
        return True
    ours = np.array(told.logprobs, dtype=np.float32)[-count:]
    assert begun.inference_logprobs is not None, "what is moved was sampled"
    report = base.compare([begun.inference_logprobs], [ours], begun.first_version, 0.0)
    if report.ratio <= bound:
        return True
    counters.add({"faults/moved_disagreements": 1})
    return False

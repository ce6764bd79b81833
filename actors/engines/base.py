"""What every engine needs beside its library: seeds, the model's parameter list, what fits, the
wait before a load, the comparison with the learner, what is counted; and what an engine's file
declares.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Protocol

import numpy as np

from oapl.config import RunConfig
from oapl.config.kinds import Kind
from oapl.counters import Counters
from oapl.errors import EngineError, InputError, OaplError, WeightsError
from oapl.interfaces import Engine, WeightReceiver
from oapl.records import ProbeReport, Prompt, Rollout, Sampling

DRAIN_SHARE = 0.5
"""Of `sync.timeout_s`, for draining: whoever waits for a publication waits for the load too."""
REFUSALS = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ImportError)
"""What a library raises about a model or setting that it cannot serve; memory, files and processes,
of which other errors tell, may be there the next time."""
LONGEST_REASON = 400
"""Letters of a library's own text."""
EXACT_BOUND, MIXED_BOUND = 1.001, 1.10
"""Mean exp(|log-prob difference|) that is accepted: all fp32; else."""
MEMORY_FRACTION = 0.9
"""Of an engine's share of its device, for weights, activations and KV cache."""


class EngineFile(Protocol):
    """A file of `actors/engines/`, or a module of the user's own; imports its library late."""

    Config: Annotated[type, "the engine's own options", "@section class Config: ..."]

    def problems(self, config: RunConfig) -> Iterable[str]:
        """What of the configuration this engine cannot do, a line each."""

    def environment(self, config: RunConfig) -> Mapping[str, str]:
        """What must be in the environment before the engine's library is imported."""

    def memory_fraction(self, config: RunConfig) -> float:
        """Share of each device's memory that the engine may fill."""

    def build(
        self,
        config: RunConfig,
        *,
        receiver: WeightReceiver,
        index: int,
        incarnation: int,
        step: int,
    ) -> Engine:
        """The engine with the model's weights as they lie on disk; version -1.

        Args:
            config: Its options are `rollout.engine_options`.
            receiver: Where published weights come from.
            index, incarnation: Of its worker: which one, and how often it was started again.
            step: Learner steps made before the run's processes were started: above 0 where it goes
                on from a checkpoint, and shall not draw the samples of its beginning again.
        """


ENGINES: Kind[EngineFile] = Kind("actors.engines", EngineFile)


BUILDS = 1000
"""Of one incarnation, at most: rebuilds are rare."""


def engine_seeds(run_seed: int, *, index: int, incarnation: int, step: int) -> Iterator[int]:
    """Give a seed for each build of an engine: with equal seeds engines draw identical samples.

    Args:
        run_seed: The run's.
        index, incarnation, step: As in `EngineFile.build`.

    Yields:
        For the first build, and for each that follows; none of them is another engine's.
    """
    for build in itertools.count(incarnation * BUILDS):
        yield int(np.random.SeedSequence([run_seed, index, build, step]).generate_state(1)[0] >> 1)


def parameter_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """List every parameter of the model under its Hugging Face name, tied ones once; no weights are
    read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = config.model.trust_remote_code
    model_config = AutoConfig.from_pretrained(config.model.path, trust_remote_code=trust)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config, trust_remote_code=trust)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def check_fits(prompt: Prompt, sampling: Sampling, context: int, vocabulary: int) -> None:
    """Refuse what the engine could only answer by cutting it short.

    Args:
        prompt: Its token ids are looked at.
        sampling: Says how long the response may be.
        context: Longest prompt plus response, tokens.
        vocabulary: Tokens that the model knows.

    Raises:
        ValueError: Empty, a token the model does not know, or longer than the context.
    """
    length = len(prompt.token_ids)
    if length == 0:
        raise ValueError(f"prompt {prompt.id} is empty")
    if sampling.max_tokens < 1:
        raise ValueError(f"max_tokens is {sampling.max_tokens}, at least 1 is needed")
    if length + sampling.max_tokens > context:
        raise ValueError(
            f"prompt {prompt.id} has {length} tokens; with max_tokens {sampling.max_tokens} that "
            f"is more than the context of {context}"
        )
    low, high = int(prompt.token_ids.min()), int(prompt.token_ids.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"prompt {prompt.id} has token {low if low < 0 else high}, but the vocabulary ends "
            f"at {vocabulary - 1}: it was made with another tokenizer"
        )


def probe_bound(config: RunConfig) -> float:
    """Tell the largest mean exp(|difference|) between engine and learner that is accepted.

    Args:
        config: Its `sync.probe_bound`, or what follows from its precisions.
    """
    exact = config.model.dtype == "float32" and config.learner.precision == "fp32"
    return config.sync.probe_bound or (EXACT_BOUND if exact else MIXED_BOUND)


def compare(
    learner: Sequence[np.ndarray], engine: Sequence[np.ndarray], version: int, load_s: float
) -> ProbeReport:
    """Measure how far the engine's log-probs are from the learner's.

    Args:
        learner: Per sequence float32 [T - 1], its ln pi of tokens 1 to T - 1.
        engine: Per sequence float32 [S], the engine's of tokens 1 to S; S may be shorter where the
            context ends.
        version: The version compared.
        load_s: To report along.

    Returns:
        Means over the compared tokens; a non-finite engine gives a NaN ratio, an empty probe 1.
    """
    parts = [ours[: len(theirs)] - theirs for ours, theirs in zip(learner, engine, strict=True)]
    differences = np.abs(np.concatenate([np.zeros(0), *parts], dtype=np.float64))
    if not len(differences):
        return ProbeReport(
            version=version, ratio=1.0, max_difference=0.0, num_tokens=0, load_s=load_s
        )
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = float(np.exp(differences).mean())
    return ProbeReport(
        version=version,
        ratio=ratio,
        max_difference=float(differences.max()),
        num_tokens=len(differences),
        load_s=load_s,
    )


def first_build_failed(config: RunConfig, error: EngineError) -> OaplError:
    """Tell what no further start can mend from what one may.

    Args:
        config: Names the model.
        error: Of the first build; its cause is the library's own.

    Returns:
        An `InputError` where the library refuses the model or a setting; else `error`.
    """
    cause = error.__cause__
    if not isinstance(cause, REFUSALS) or "memory" in str(cause).lower():
        return error
    return InputError(
        f"model.path = {config.model.path!r}: the inference engine does not serve this model as it "
        f"is set up ({type(cause).__name__}: {reason_of(cause)}); use a model that it knows, or "
        "change rollout.engine_options"
    )


def reason_of(error: BaseException) -> str:
    """The text of a library's error on one line, its beginning where it is long."""
    text = "; ".join(filter(None, map(str.strip, str(error).splitlines())))
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + " ..."


def load_failed(index: int, version: int, error: Exception, *, is_first: bool) -> OaplError:
    """Make an error of our own for whatever stopped a load.

    Args:
        index: The engine's.
        version: The publication's.
        error: The cause; its text is all that is kept of it.
        is_first: The engine has loaded none before.

    Returns:
        An `InputError` where the library refuses the model's first publication: it would refuse
        every other.
    """
    if isinstance(error, OaplError):
        return WeightsError(f"engine {index} could not load version {version}: {error}")
    reason = f"{type(error).__name__}: {reason_of(error)}"
    if is_first and isinstance(error, REFUSALS):
        return InputError(
            f"engine {index} does not take in this type of model as transformers names its "
            f"parameters ({reason}); use one that learner/models/README.md lists as compared, or "
            "imitate (`oapl sft`), which needs no engine"
        )
    return WeightsError(f"engine {index} could not load version {version}: {reason}")


def scoring_failed(index: int, error: Exception) -> EngineError:
    """Make an error of our own for whatever kept an engine from scoring tokens.

    Args:
        index: The engine's.
        error: The cause; its text is all that is kept of it.
    """
    return EngineError(
        f"engine {index} could not score tokens: {type(error).__name__}: {reason_of(error)}"
    )


async def drain(config: RunConfig, ended: Awaitable[None], counters: Counters) -> None:
    """Wait before a load, where engines drain, until what is in flight has `ended`.

    The engine goes on sampling, and takes what still comes: the rest of a group that was about to
    start. What has not ended in time is left for the load to abort, and counted.

    Args:
        config: Says how long a publication may wait.
        ended: Done as soon as nothing is in flight.
        counters: Where the wait is counted.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(DRAIN_SHARE * config.sync.timeout_s):
            await ended
    except TimeoutError:
        counters.add({"faults/cut_drains": 1})
    counters.add({"engine/drain_s": time.monotonic() - started})


def is_finite(logprobs: Sequence[np.ndarray]) -> bool:
    """Whether every log-prob is finite: a NaN in the KV cache shows in its sequence's next token.

    Args:
        logprobs: Per sequence float32 [T].
    """
    return all(np.isfinite(part).all() for part in logprobs)


def count_rollout(counters: Counters, rollout: Rollout, begun: Rollout | None = None) -> None:
    """Count a rollout that ended, or was cut off, and the tokens made of it here.

    Args:
        counters: Where it is counted.
        rollout: Its finish reason says which.
        begun: What another engine has made, and counted, of it.
    """
    is_aborted = rollout.finish_reason == "abort"
    before = 0 if begun is None else len(begun.token_ids)
    counters.add(
        {
            "rollout/aborted" if is_aborted else "rollout/rollouts": 1,
            "rollout/aborted_tokens" if is_aborted else "rollout/tokens": max(
                0, len(rollout.token_ids) - before
            ),
            "rollout/truncated": rollout.is_truncated,
        }
    )

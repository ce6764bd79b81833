"""vLLM's `LLMEngine` in this process, with one thread that steps it: the engine for CPUs.

One process instead of three, 10 instead of 24-29 CPU-seconds to the first token, and the highest
token rate with small models.

A load runs on the stepping thread, so nothing is sampled while weights change: abort what is in
flight (nothing, after a drain), compare the publication's list with the model, clear the prefix
cache (vLLM does not: same prompts would be answered from the old weights), load chunk by chunk as
the learner sends them, zero the KV blocks if the version before produced NaN (which survives good
weights there), re-score the probe. Requests that arrive meanwhile wait, and end as aborted, since
they were meant for the version before. Whatever fails once tensors are taken in leaves a model half
old and half new, so the engine is built anew. A process holds one such engine.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from actors.data.context import engine_context
from actors.data.tokenizer import ResponseDecoder, load_tokenizer
from actors.engines import base
from actors.engines._vllm import going_on, inputs
from actors.engines._vllm.outputs import INITIAL_VERSION
from oapl.config import RunConfig
from oapl.config.fields import Count, Flag, NonNegativeInt, section
from oapl.counters import Counters
from oapl.errors import EngineError
from oapl.interfaces import WeightReceiver
from oapl.records import Metrics, ProbeReport, Prompt, Rollout, Sampling, WeightsVersion
from oapl.remote.waiting import within
from oapl.weights.base import check_specs


@section
class Config:
    """Options of the in-process vLLM engine (`rollout.engine_options`)."""

    max_num_seqs: Count = 128
    """Sequences sampled at a time."""
    kv_cache_bytes: NonNegativeInt = 0
    """Size of the KV cache; 0 means room for `max_num_seqs` whole contexts, at most 1 GiB."""
    block_size: Count = 32
    """Tokens per KV block; a prompt shares whole blocks only, so short prompts want small ones."""
    prefix_caching: Flag = True
    """Keep the KV of a prompt for the other rollouts of its group."""
    max_batched_tokens: NonNegativeInt = 0
    """Most tokens in one forward pass; 0 leaves it to vLLM."""
    enforce_eager: Flag = True
    """Do not compile the model; compiling takes longer than it saves on a CPU."""


def problems(config: RunConfig) -> Iterator[str]:
    """What of the configuration this engine cannot do."""
    if (degree := config.rollout.tensor_parallel_size) > 1:
        yield (
            f"rollout.tensor_parallel_size = {degree}: the engine vllm_inprocess is one process; "
            'set it to 1, or rollout.engine = "vllm_async"'
        )
    options = Config(**config.rollout.engine_options)
    yield from inputs.problems(
        config,
        max_num_seqs=options.max_num_seqs,
        max_batched_tokens=options.max_batched_tokens,
    )


def environment(config: RunConfig) -> dict[str, str]:
    """What must be in the environment before torch and vLLM are imported."""
    return {
        "TORCHDYNAMO_DISABLE": "1",  # the token-rank kernel would be compiled for 18-24 s
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        **inputs.environment(config),
    }


def memory_fraction(config: RunConfig) -> float:
    """Share of a device's memory that the engine may fill: what vLLM takes by itself."""
    return base.MEMORY_FRACTION * min(1.0, config.cluster.devices_per_engine or 1.0)


def build(
    config: RunConfig,
    *,
    receiver: WeightReceiver,
    index: int,
    incarnation: int = 0,
    step: int = 0,
) -> VllmInprocess:
    """Make the engine with the model's weights as they lie on disk; version -1.

    Args:
        config: The run.
        receiver: The transport's end at which publications come in.
        index: The engine's, from 0.
        incarnation, step: How often its worker was started before, and learner steps made before
            any was; the sampler's seed differs by both.
    """
    for name, value in environment(config).items():
        os.environ.setdefault(name, value)
    seeds = base.engine_seeds(config.run.seed, index=index, incarnation=incarnation, step=step)
    return VllmInprocess(config, receiver=receiver, index=index, seeds=seeds)


class VllmInprocess:
    """See `oapl.interfaces.Engine`. One event loop or several may wait for rollouts."""

    def __init__(
        self, config: RunConfig, *, receiver: WeightReceiver, index: int, seeds: Iterator[int]
    ) -> None:
        from actors.engines._vllm.stepping import SteppingThread

        self._config = config
        self._options = Config(**config.rollout.engine_options)
        self._receiver = receiver
        self._index = index
        self._seeds = seeds
        self._ids = itertools.count()
        self._counters = Counters()
        self._has_loaded = False
        self._moved_bound = base.probe_bound(config)
        self.context = engine_context(config)
        tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self._expected = base.parameter_shapes(config)
        self._thread = SteppingThread(
            self._make_engine,
            ResponseDecoder(tokenizer, config),
            self._counters,
            f"engine-{index}",
        )
        try:
            self._thread.call(self._thread.rebuild).result(config.cluster.start_timeout_s)
        except EngineError as error:
            self._thread.close()
            raise base.first_build_failed(config, error) from None
        self._vocabulary = int(self._thread.engine.model_config.get_vocab_size())

    @property
    def version(self) -> int:
        """See `oapl.interfaces.Engine`."""
        return self._thread.version

    async def generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None = None
    ) -> Rollout:
        """Sample one rollout. See `oapl.interfaces.Engine.generate`."""
        from actors.engines._vllm.stepping import EngineRequest

        base.check_fits(prompt, sampling, self.context, self._vocabulary)
        loop = asyncio.get_running_loop()
        request = EngineRequest(
            id=f"r{next(self._ids)}",
            token_ids=going_on.token_ids(prompt, begun),
            params=going_on.params(sampling, begun),
            loop=loop,
            future=loop.create_future(),
        )
        if begun is not None:
            request.begun = begun
            request.agrees = partial(
                going_on.agrees, begun, bound=self._moved_bound, counters=self._counters
            )
        self._thread.submit(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._thread.cancel(request.id)
            raise

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Take in a publication; see `oapl.interfaces.Engine.load`.

        Raises:
            WeightsError: The engine holds version -1; it was rebuilt if it had taken in a part.
            EngineError: It had failed before and was not rebuilt.
        """
        what = f"engine {self._index} to load version {weights.version}"
        if self._config.sync.in_flight == "drain":
            await base.drain(self._config, asyncio.wrap_future(self._thread.idle()), self._counters)
        return await self._on_thread(lambda: self._load(weights), what)

    async def score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Score given tokens. See `oapl.interfaces.Engine.score`."""
        what = f"engine {self._index} to score {len(sequences)} sequences"
        scores: list[np.ndarray] = await self._on_thread(lambda: self._score_alone(sequences), what)
        return scores

    async def rebuild(self) -> None:
        """Make a fresh engine with the weights on disk; what is in flight fails."""
        await self._on_thread(self._thread.rebuild, f"engine {self._index} to be rebuilt")
        self._counters.add({"faults/engine_rebuilds": 1})

    def stats(self) -> Metrics:
        """Report sums since the last call; `engine/*_s` are seconds of the stepping thread."""
        self._thread.count_idle()
        return self._counters.take()

    def quiet_s(self) -> float:
        """Seconds since its last token."""
        return time.monotonic() - self._thread.stepped_at

    async def ping(self) -> None:
        """Have the stepping thread answer; see `oapl.interfaces.Engine.ping`."""
        await asyncio.wrap_future(self._thread.call(lambda: None))

    def close(self) -> None:
        """End the engine and its thread; what is in flight ends as aborted."""
        self._thread.close()

    async def _on_thread(self, run: Any, what: str) -> Any:
        future = asyncio.wrap_future(self._thread.call(run))
        return await within(self._config.sync.timeout_s, future, what)

    # -- on the stepping thread ----------------------------------------------------------------

    def _load(self, weights: WeightsVersion) -> ProbeReport:
        started = time.monotonic()
        self._thread.check()
        is_touched = False
        try:
            self._thread.abort_all()
            check_specs(weights, self._expected)
            is_touched = True
            self._take_in(weights)
            self._label(weights.version)
            load_s = time.monotonic() - started
            scores = self._score(weights.probe_ids)
            self._thread.may_hold_nan = not base.is_finite(scores)
            expected = weights.probe_logprobs.get(self._config.sync.timeout_s)
        except Exception as error:  # noqa: BLE001 - a half-loaded model, whatever the cause
            self._counters.add({"faults/failed_loads": 1})
            if is_touched:
                self._thread.rebuild()
            else:  # the weights are whole, but nobody asks for them any more
                self._label(INITIAL_VERSION)
            is_first = not self._has_loaded
            raise base.load_failed(self._index, weights.version, error, is_first=is_first) from None
        self._has_loaded = True
        self._counters.add({"engine/load_s": time.monotonic() - started, "engine/loads": 1})
        return base.compare(expected, scores, weights.version, load_s)

    def _take_in(self, weights: WeightsVersion) -> None:
        from actors.engines._vllm import weights as vllm_weights

        engine = self._thread.engine
        if not engine.reset_prefix_cache():
            raise EngineError("the prefix cache still holds blocks of requests in flight")
        engine.collective_rpc("start_weight_update")
        update = {"tensors": self._receiver.receive(weights)}
        engine.collective_rpc("update_weights", kwargs={"update_info": update})
        engine.collective_rpc("finish_weight_update")
        engine.collective_rpc(vllm_weights.SETTLE, args=(self._thread.may_hold_nan,))

    def _label(self, version: int) -> None:
        """The version that rollouts carry from now on, in vLLM too where it knows of such."""
        if hasattr(self._thread.engine, "set_weight_version"):
            self._thread.engine.set_weight_version(str(version))
        self._thread.version = version

    def _score_alone(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._thread.check()
        try:
            return self._score(sequences)
        except Exception as error:  # noqa: BLE001 - vLLM's own errors do not leave
            raise base.scoring_failed(self._index, error) from None

    def _score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The engine's ln pi of each sequence but its first token, at temperature 1."""
        prompts = inputs.probe_prompts(sequences, self.context)
        return inputs.probe_scores(self._thread.complete(prompts, inputs.probe_params()))

    def _make_engine(self) -> Any:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from actors.engines._vllm import models

        config, options = self._config, self._options
        if options.enforce_eager:
            models.leave_classes_alone()
        common = inputs.engine_args(
            config,
            seed=next(self._seeds),
            context=self.context,
            max_num_seqs=options.max_num_seqs,
            prefix_caching=options.prefix_caching,
            max_batched_tokens=options.max_batched_tokens,
            enforce_eager=options.enforce_eager,
        )
        room = options.kv_cache_bytes or inputs.kv_bytes(
            config,
            context=self.context,
            max_num_seqs=options.max_num_seqs,
            block_size=options.block_size,
        )
        args = EngineArgs(block_size=options.block_size, kv_cache_memory_bytes=room, **common)
        return LLMEngine.from_engine_args(args)

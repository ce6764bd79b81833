"""vLLM's `AsyncLLM`, whose engine runs in processes of its own: the engine for CUDA and NPU.

One thread of this process runs the event loop in which `AsyncLLM` lives, so that callers on any
loop, and how busy theirs is, do not matter to it.

A load closes a gate of our own before it pauses vLLM (0.23 and 0.32 queue what arrives during a
pause, 0.33 rejects it), aborts what is in flight (nothing, after a drain), clears the caches, and
has the workers load the publication in parts (`_vllm.parts`), which come through this process or,
where the transport can, straight from the learner. The first part is fetched whole before a model
is touched, so a publication that is not this model's, or one damaged in that part, costs no
rebuild; whatever fails later leaves a model half old and half new, so the engine is built anew.
Requests that wait at the gate end as aborted, since they were meant for the version before.
vLLM's own exceptions never leave: unpickling one imports vLLM, and takes seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from actors.data.context import engine_context
from actors.data.tokenizer import ResponseDecoder, load_tokenizer
from actors.engines import base
from actors.engines._vllm import going_on, inputs
from actors.engines._vllm.outputs import INITIAL_VERSION, NO_OUTPUT, to_rollout, whole_ids
from actors.engines._vllm.parts import Part, Parts, parts_of
from oapl.config import RunConfig
from oapl.config.fields import Count, Flag, Fraction, NonNegativeInt, section
from oapl.counters import Counters, Stopwatch
from oapl.errors import EngineError, OaplError
from oapl.interfaces import WeightReceiver
from oapl.records import (
    FinishReason,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    WeightsVersion,
)
from oapl.remote.waiting import within
from oapl.weights.base import check_specs

T = TypeVar("T")

CPU_BLOCK_SIZE = 32
SHUTDOWN_S = 1.0
"""What vLLM's processes get to end by themselves."""
ENDED = "the inference engine failed: its process has ended; the worker's log tells the cause"
REOPEN_S = 30.0
"""What vLLM gets to take up sampling again after a publication that was refused."""
GRACE_S = 900.0
"""What a call may take beyond `sync.timeout_s`: a rebuild of a large model."""


@section
class Config:
    """Options of vLLM in processes of its own (`rollout.engine_options`)."""

    max_num_seqs: Count = 256
    """Sequences sampled at a time."""
    memory_fraction: Fraction = 0.0
    """Share of each device's memory; 0 means 0.9 of the engine's share of the device."""
    kv_cache_bytes: NonNegativeInt = 0
    """Size of the KV cache per device; 0 means what `memory_fraction` leaves; on a CPU room for
    `max_num_seqs` whole contexts, at most 1 GiB."""
    block_size: NonNegativeInt = 0
    """Tokens per KV block; 0 means 32 on a CPU, elsewhere vLLM's choice."""
    prefix_caching: Flag = True
    """Keep the KV of a prompt for the other rollouts of its group."""
    max_batched_tokens: NonNegativeInt = 0
    """Most tokens in one forward pass; 0 leaves it to vLLM."""
    enforce_eager: Flag = False
    """Neither compile the model nor capture graphs; never done on a CPU, where it does not pay."""


def problems(config: RunConfig) -> Iterator[str]:
    """What of the configuration this engine cannot do."""
    options = Config(**config.rollout.engine_options)
    asked, share = options.memory_fraction, config.cluster.devices_per_engine or 1.0
    if asked and config.cluster.device == "cpu":
        yield (
            f"rollout.engine_options.memory_fraction = {asked:g}: a CPU has no memory of its own; "
            "set rollout.engine_options.kv_cache_bytes instead"
        )
    elif asked > share:
        yield (
            f"rollout.engine_options.memory_fraction = {asked:g}: more than the engine's share of "
            f"its device (cluster.devices_per_engine = {share:g}), whose rest belongs to others; "
            "lower it, or leave it out"
        )
    yield from inputs.problems(
        config,
        max_num_seqs=options.max_num_seqs,
        max_batched_tokens=options.max_batched_tokens,
    )


def environment(config: RunConfig) -> dict[str, str]:
    """What must be in the environment before torch and vLLM are imported."""
    variables = inputs.environment(config)
    if config.cluster.device == "cpu":
        variables["TORCHDYNAMO_DISABLE"] = "1"  # the token-rank kernel would be compiled for 20 s
        if config.rollout.tensor_parallel_size == 1:
            variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # no process between core and worker
        else:
            variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else it wants a NUMA node each
    return variables


def build(
    config: RunConfig,
    *,
    receiver: WeightReceiver,
    index: int,
    incarnation: int = 0,
    step: int = 0,
) -> VllmAsync:
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
    return VllmAsync(config, receiver=receiver, index=index, seeds=seeds)


def memory_fraction(config: RunConfig) -> float:
    """Share of each device's memory that the engine may fill."""
    asked = Config(**config.rollout.engine_options).memory_fraction
    share = config.cluster.devices_per_engine or 1.0
    return asked or base.MEMORY_FRACTION * min(1.0, share)


class VllmAsync:
    """See `oapl.interfaces.Engine`. One event loop or several may wait for rollouts."""

    def __init__(
        self, config: RunConfig, *, receiver: WeightReceiver, index: int, seeds: Iterator[int]
    ) -> None:
        self._config = config
        self._options = Config(**config.rollout.engine_options)
        self._receiver = receiver
        self._index = index
        self._seeds = seeds
        self._ids = itertools.count()
        self._counters = Counters()
        self._stopwatch = Stopwatch(self._counters, "engine/{}_s", "idle")
        self.context = engine_context(config)
        tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self._decode = ResponseDecoder(tokenizer, config)
        self._expected = base.parameter_shapes(config)
        self._llm: Any = None
        self._version = INITIAL_VERSION
        self._has_loaded = False
        self._moved_bound = base.probe_bound(config)
        self._may_hold_nan = False
        self._fault: str | None = None
        self._answered_at = float("-inf")
        self._closed = False
        self._in_flight: dict[str, asyncio.Task[Any]] = {}
        self._gate = asyncio.Event()
        self._lock = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"engine-{index}", daemon=True
        )
        self._thread.start()
        try:
            self._submit(self._build()).result(config.cluster.start_timeout_s)
        except EngineError as error:
            self._stop_loop()
            raise base.first_build_failed(config, error) from None
        except BaseException:
            self._stop_loop()
            raise
        self._gate.set()

    @property
    def version(self) -> int:
        """See `oapl.interfaces.Engine`."""
        return self._version

    async def generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None = None
    ) -> Rollout:
        """Sample one rollout. See `oapl.interfaces.Engine.generate`."""
        base.check_fits(prompt, sampling, self.context, self._vocabulary)
        self._check()
        return await asyncio.wrap_future(
            self._submit(self._generate(prompt, sampling, begun, self._version))
        )

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Take in a publication; see `oapl.interfaces.Engine.load`.

        Raises:
            WeightsError: The engine holds version -1; it was rebuilt if it had taken in a part.
            EngineError: It had failed before and was not rebuilt.
        """
        self._check()
        what = f"engine {self._index} to load version {weights.version}"
        return await self._on_loop(self._load(weights), what)

    async def score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Score given tokens. See `oapl.interfaces.Engine.score`."""
        self._check()
        what = f"engine {self._index} to score {len(sequences)} sequences"
        return await self._on_loop(self._score_alone(sequences), what)

    async def rebuild(self) -> None:
        """Make a fresh engine with the weights on disk; what is in flight fails."""
        await self._on_loop(self._rebuild_alone(), f"engine {self._index} to be rebuilt")
        self._counters.add({"faults/engine_rebuilds": 1})

    def stats(self) -> Metrics:
        """Report sums since the last call; `engine/busy_s` counts while a request is in flight."""
        self._stopwatch.count()
        return self._counters.take()

    def quiet_s(self) -> float:
        """Seconds since its last response: vLLM tells of whole ones."""
        return time.monotonic() - self._answered_at

    async def ping(self) -> None:
        """Have vLLM's own process answer; see `oapl.interfaces.Engine.ping`."""
        llm = self._llm
        if llm is not None and not self._closed and not llm.errored:
            await asyncio.wrap_future(self._submit(llm.is_sleeping()))

    def close(self) -> None:
        """End the engine; what is in flight ends as aborted."""
        if not self._closed:
            self._closed = True
            self._submit(self._close()).result(self._config.sync.timeout_s)
            self._stop_loop()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run `work` on the engine's loop; a cancelled wait cancels it."""
        if self._loop.is_closed():
            work.close()
            raise EngineError("the inference engine was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _on_loop(self, work: Coroutine[Any, Any, T], what: str) -> T:
        """Wait for `work`, which goes on when nobody waits any more: half a load is worse."""
        running = asyncio.shield(asyncio.wrap_future(self._submit(work)))
        return await within(self._config.sync.timeout_s + GRACE_S, running, what)

    def _check(self) -> None:
        """Raise the `EngineError` of a fault that no rebuild has mended yet, or of the end."""
        if self._closed:
            raise EngineError("the inference engine was closed")
        if not self._fault and self._llm is not None and self._llm.errored:
            self._fault = ENDED
        if self._fault:
            raise EngineError(self._fault)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SHUTDOWN_S)
        if not self._thread.is_alive():
            self._loop.close()

    # -- on the engine's loop ------------------------------------------------------------------

    async def _generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None, version: int
    ) -> Rollout:
        await self._gate.wait()
        self._check()
        began = version if begun is None else begun.last_version
        if (version, began) != (self._version, self._version):
            return self._finish(NO_OUTPUT, "abort", begun)
        request_id = f"r{next(self._ids)}"
        task = asyncio.current_task()
        assert task is not None
        self._in_flight[request_id] = task
        self._stopwatch.enter("busy")
        try:
            token_ids = going_on.token_ids(prompt, begun)
            answer = await self._complete(request_id, token_ids, going_on.params(sampling, begun))
            output = answer.outputs[0]
            if begun is not None and not going_on.agrees(
                begun, answer, self._moved_bound, self._counters
            ):
                return self._finish(NO_OUTPUT, "abort")
            return self._finish(output, output.finish_reason, begun)
        except asyncio.CancelledError:
            self._may_hold_nan = True  # nobody has seen what it would have been answered
            if self._fault:
                raise EngineError(self._fault) from None
            raise
        except OaplError:
            raise
        except Exception as error:  # noqa: BLE001 - vLLM's own errors do not leave
            if not self._gate.is_set() and not self._llm.errored:  # 0.33 rejects during a pause
                return self._finish(NO_OUTPUT, "abort", begun)
            raise self._ours(error) from None
        finally:
            del self._in_flight[request_id]
            if not self._in_flight:
                self._stopwatch.enter("idle")

    async def _complete(self, request_id: str, token_ids: list[int], params: Any) -> Any:
        """vLLM's final output of one request."""
        output: Any = None
        prompt = {"prompt_token_ids": token_ids}
        async for answer in self._llm.generate(prompt, params, request_id):
            output = answer
        return output

    def _finish(self, output: Any, reason: FinishReason, begun: Rollout | None = None) -> Rollout:
        if reason not in ("stop", "length", "abort"):
            raise EngineError(f"vLLM ended a request with {reason!r}")
        (text,) = self._decode([whole_ids(output, begun)])
        rollout = to_rollout(output, reason, text, self._version, begun)
        self._answered_at = time.monotonic()
        base.count_rollout(self._counters, rollout, begun)
        assert rollout.inference_logprobs is not None, "rollouts are asked for with log-probs"
        self._may_hold_nan |= not base.is_finite([rollout.inference_logprobs])
        return rollout

    def _ours(self, error: Exception) -> Exception:
        """An error of this project for one of vLLM's."""
        cause = error.__cause__ or error  # vLLM wraps what broke a request
        text = f"{type(cause).__name__}: {cause}"
        if self._llm.errored:
            self._fault = self._fault or ENDED
            return EngineError(self._fault)
        if isinstance(cause, ValueError) or "Validation" in type(cause).__name__:
            return ValueError(f"vLLM refused the request: {cause}")
        return EngineError(f"vLLM could not answer a request: {text}")

    async def _load(self, weights: WeightsVersion) -> ProbeReport:
        async with self._lock:
            if self._config.sync.in_flight == "drain":
                await base.drain(self._config, self._nothing_in_flight(), self._counters)
            started = time.monotonic()
            self._check()
            self._gate.clear()
            is_touched = False
            try:
                async with asyncio.timeout(self._config.sync.timeout_s):
                    await self._abort_in_flight()
                    self._stopwatch.enter("load")
                    check_specs(weights, self._expected)
                    parts = parts_of(self._receiver, weights, self._llm)
                    first = await parts.fetch()
                    assert first is not None, "a model without parameters has passed check_specs"
                    is_touched = True
                    await self._take_in(weights.version, first, parts)
                    load_s = time.monotonic() - started
                    scores = await self._score(weights.probe_ids)
                    self._may_hold_nan = not base.is_finite(scores)
                    expected = await asyncio.to_thread(
                        weights.probe_logprobs.get, self._config.sync.timeout_s
                    )
                self._version, self._has_loaded = weights.version, True
            except Exception as error:  # noqa: BLE001 - the model may be half loaded
                self._counters.add({"faults/failed_loads": 1})
                await self._recover(is_touched)
                is_first = not self._has_loaded
                raise base.load_failed(
                    self._index, weights.version, error, is_first=is_first
                ) from None
            finally:
                self._stopwatch.enter("idle")
                self._gate.set()
        self._counters.add({"engine/loads": 1})
        return base.compare(expected, scores, weights.version, load_s)

    async def _nothing_in_flight(self) -> None:
        while self._in_flight:
            await asyncio.wait(list(self._in_flight.values()))

    async def _abort_in_flight(self) -> None:
        """Pause, and wait until everything in flight has been answered with what it has so far."""
        await self._llm.pause_generation(mode="abort", clear_cache=True)
        if self._in_flight:  # answers on their way, and requests that met the pause
            await self._llm.abort(list(self._in_flight))
            await asyncio.wait(list(self._in_flight.values()))

    async def _take_in(self, version: int, first: Part, rest: Parts) -> None:
        from actors.engines._vllm import weights as vllm_weights

        with contextlib.ExitStack() as held:
            part: Part | None = first
            held.callback(first.close)
            await self._llm.start_weight_update()
            while part is not None:  # the next one is fetched while vLLM loads this one
                fetching = asyncio.create_task(rest.fetch())
                try:
                    await self._update(part)
                finally:
                    held.close()
                    part = await fetching
                    if part is not None:
                        held.callback(part.close)
        await self._llm.finish_weight_update()
        await self._llm.collective_rpc(vllm_weights.SETTLE, args=(self._may_hold_nan,))
        await self._open(version)

    async def _update(self, part: Part) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        request = WeightTransferUpdateRequest(update_info=dict(part.update_info))
        await self._llm.update_weights(request)

    async def _open(self, version: int) -> None:
        """Let vLLM schedule again, labelling what it samples where it knows of versions."""
        if hasattr(self._llm, "update_weight_version"):
            await self._llm.update_weight_version(str(version))
        await self._llm.resume_generation()

    async def _score_alone(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return await self._score(sequences)
        except Exception as error:  # noqa: BLE001 - vLLM's own errors do not leave
            raise base.scoring_failed(self._index, error) from None

    async def _score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The engine's ln pi of each sequence but its first token, at temperature 1."""
        params = inputs.probe_params()
        prompts = inputs.probe_prompts(sequences, self.context)
        outputs = await asyncio.gather(
            *(self._complete(f"probe-{next(self._ids)}", ids, params) for ids in prompts)
        )
        return inputs.probe_scores(outputs)

    async def _recover(self, is_touched: bool) -> None:
        """After a failed load: version -1. Raises: EngineError."""
        if not is_touched and not self._llm.errored:
            self._version = INITIAL_VERSION
            with contextlib.suppress(Exception):  # it died meanwhile, or a worker still fetches
                async with asyncio.timeout(REOPEN_S):
                    await self._open(INITIAL_VERSION)  # whole weights, but nobody asks for them
                return
        await self._rebuild()

    async def _rebuild_alone(self) -> None:
        async with self._lock:
            await self._rebuild()

    async def _rebuild(self) -> None:
        """Shut down and build. Raises: EngineError."""
        await self._shut_down("the inference engine is being rebuilt")
        await self._build()
        self._version = INITIAL_VERSION
        self._fault = None

    async def _build(self) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            if self._closed:
                raise EngineError("the inference engine was closed")
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**self._engine_args()))
        except Exception as error:
            self._fault = f"the inference engine could not be built: {base.reason_of(error)}"
            raise EngineError(self._fault) from error
        self._vocabulary = int(self._llm.model_config.get_vocab_size())

    def _engine_args(self) -> dict[str, Any]:
        config, options = self._config, self._options
        is_cpu = config.cluster.device == "cpu"
        args = inputs.engine_args(
            config,
            seed=next(self._seeds),
            context=self.context,
            max_num_seqs=options.max_num_seqs,
            prefix_caching=options.prefix_caching,
            max_batched_tokens=options.max_batched_tokens,
            enforce_eager=options.enforce_eager or is_cpu,
        )
        block_size = options.block_size or (CPU_BLOCK_SIZE if is_cpu else 0)
        room = options.kv_cache_bytes
        if is_cpu:
            room = room or inputs.kv_bytes(
                config,
                context=self.context,
                max_num_seqs=options.max_num_seqs,
                block_size=block_size,
            )
        else:
            args["gpu_memory_utilization"] = memory_fraction(config)
        if config.rollout.tensor_parallel_size > 1:
            args["distributed_executor_backend"] = "mp"  # within Ray vLLM might choose Ray
        if block_size:
            args["block_size"] = block_size
        if room:
            args["kv_cache_memory_bytes"] = room
        return args

    async def _shut_down(self, reason: str) -> None:
        """End vLLM's processes; what is in flight fails with `reason`."""
        self._fault = reason
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.shutdown(timeout=SHUTDOWN_S)

    async def _close(self) -> None:
        if self._llm is not None and not self._fault and not self._llm.errored:
            await self._abort_in_flight()
        await self._shut_down("the inference engine was closed")

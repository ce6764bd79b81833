"""One thread owns an `LLMEngine`: it admits requests, steps, and hands finished rollouts back.

Invariants: nothing else touches the engine (it is not thread-safe), so a call that runs on this
thread has paused it; every submitted request is answered exactly once, with a rollout or with an
error of ours (vLLM's own exception objects never leave: unpickling one imports vLLM); the rollouts
that end in one step are handed to an event loop in one call, because waking a loop per rollout
costs more than sampling it with a small model; a request is sampled under the version that was
held when it was submitted, or ends as aborted. After a fault everything is refused at once until
`rebuild`.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from actors.engines._vllm.outputs import (
    INITIAL_VERSION,
    NO_OUTPUT,
    partial_output,
    to_rollout,
    whole_ids,
)
from actors.engines.base import count_rollout, is_finite, reason_of
from oapl.counters import Counters
from oapl.errors import EngineError
from oapl.records import FinishReason, Rollout

T = TypeVar("T")
Answer = Rollout | Exception

CLOSE_S = 30.0
"""How long `close` waits for the step in progress."""


@dataclass(slots=True, eq=False)
class EngineRequest:
    """One rollout to be made, or to go on from what has `begun` as long as this engine `agrees`
    with it, and the event loop that waits for it."""

    id: str
    token_ids: list[int]
    params: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Rollout]
    begun: Rollout | None = None
    agrees: Callable[[Any], bool] = lambda _: True
    version: int = INITIAL_VERSION
    internal_id: str = ""


@dataclass(slots=True, eq=False)
class _Cancel:
    id: str


@dataclass(slots=True, eq=False)
class _Call:
    run: Callable[[], Any]
    future: Future[Any]


class SteppingThread:
    """Drives an `LLMEngine` that it builds itself.

    Args:
        build: Makes the engine; runs on the thread, and again at each `rebuild`.
        decode: Token ids of several responses to their texts.
        counters: Where tokens, rollouts and seconds are counted.
        name: Of the thread.

    Attributes:
        stepped_at: When a step ended last, by the monotonic clock; -inf before the first.
        may_hold_nan: The KV cache may: a log-prob was not finite, or a request ended unseen.
    """

    _owner: ClassVar[SteppingThread | None] = None

    def __init__(
        self,
        build: Callable[[], Any],
        decode: Callable[[list[list[int]]], list[str]],
        counters: Counters,
        name: str,
    ) -> None:
        self.engine: Any = None
        self.version = INITIAL_VERSION
        self.stepped_at = float("-inf")
        self.may_hold_nan = False
        self._build = build
        self._decode = decode
        self._counters = counters
        self._inbox: queue.SimpleQueue[EngineRequest | _Cancel | _Call] = queue.SimpleQueue()
        self._active: dict[str, EngineRequest] = {}
        self._awaiting_idle: list[Future[None]] = []
        self._fault: str | None = None
        self._closing = False
        self._idle_lock = threading.Lock()
        self._idle_since: float | None = None
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    # -- from any thread -----------------------------------------------------------------------

    def submit(self, request: EngineRequest) -> None:
        """Queue a request; `request.future` will be resolved on its own loop.

        Raises:
            EngineError: The engine has failed and was not rebuilt.
        """
        self.check()
        request.version = self.version
        self._inbox.put(request)
        self._demand_thread()

    def cancel(self, request_id: str) -> None:
        """Give up a request: nobody waits for it any more."""
        self._inbox.put(_Cancel(request_id))

    def call(self, run: Callable[[], T]) -> Future[T]:
        """Run something between two steps; the engine stands still meanwhile."""
        future: Future[T] = Future()
        self._inbox.put(_Call(run, future))
        self._demand_thread()
        return future

    def idle(self) -> Future[None]:
        """Promise that nothing is in flight; an `EngineError` where that came by a fault."""
        future: Future[None] = Future()
        self.call(lambda: self._awaiting_idle.append(future))
        return future

    def check(self) -> None:
        """Refuse to go on after a fault that no rebuild has mended yet.

        Raises:
            EngineError: That fault.
        """
        if self._fault:
            raise EngineError(self._fault)

    def count_idle(self) -> None:
        """Count the wait that is going on now, up to now."""
        with self._idle_lock:
            if self._idle_since is not None:
                now = time.monotonic()
                self._counters.add({"engine/idle_s": now - self._idle_since})
                self._idle_since = now

    def close(self) -> None:
        """End the thread and the engine; what is in flight ends as aborted."""
        if self._thread.is_alive():
            self._inbox.put(_Call(self._close, Future()))
            self._thread.join(CLOSE_S)

    # -- on the thread -------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Make a fresh engine. What is in flight fails.

        Raises:
            EngineError: It could not be built, or another one lives in this process.
        """
        self.fail("the inference engine is being rebuilt")
        self._shut_down()
        try:
            self._become_owner()
            self.engine = self._build()
        except Exception as error:
            self._fault = f"the inference engine could not be built: {reason_of(error)}"
            raise EngineError(self._fault) from error
        self.version = INITIAL_VERSION
        self._fault = None

    def fail(self, reason: str) -> None:
        """Answer everything in flight with an error, and every later request too."""
        self._fault = reason
        self._answer((request, EngineError(reason)) for request in self._active.values())
        self._active.clear()

    def abort_all(self) -> None:
        """End what is in flight; each request is answered with what it has so far."""
        if not self._active:
            return
        states = self.engine.output_processor.request_states
        partial: list[tuple[EngineRequest, Any, FinishReason]] = [
            (request, partial_output(states[request.internal_id]), "abort")
            for request in self._active.values()
        ]
        self.engine.abort_request(list(self._active))
        self._finish(partial)
        self._active.clear()

    def complete(self, prompts: Sequence[list[int]], params: Any) -> list[Any]:
        """Run some requests of our own to their end while nothing else is in flight.

        Args:
            prompts: Token ids [T] of each.
            params: vLLM's sampling parameters, for all.

        Returns:
            vLLM's outputs, in order.
        """
        assert not self._active, "own requests share the engine with nobody"
        done: dict[str, Any] = {}
        ids = [f"own-{index}" for index in range(len(prompts))]
        for request_id, token_ids in zip(ids, prompts, strict=True):
            self.engine.add_request(request_id, {"prompt_token_ids": token_ids}, params)
        while len(done) < len(ids):
            done.update((output.request_id, output) for output in self.engine.step())
        return [done[request_id] for request_id in ids]

    def _loop(self) -> None:
        while not self._closing:
            try:
                self._tell_idle()
                self._take_in()
                if self._active:
                    self._step()
            except Exception as error:  # noqa: BLE001 - whatever it was, the engine is of no use now
                self.fail(f"the inference engine failed: {type(error).__name__}: {error}")
        self._closing = False
        self._take_in(wait=False)  # whoever came last is refused, not forgotten
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._awaiting_idle and not self._active:
            waiting, self._awaiting_idle = self._awaiting_idle, []
            for future in waiting:
                if not future.set_running_or_notify_cancel():
                    continue
                if self._fault:
                    future.set_exception(EngineError(self._fault))
                else:
                    future.set_result(None)

    def _take_in(self, wait: bool = True) -> None:
        """Wait when there is nothing to do, then take in whatever has arrived."""
        if wait and not self._active:
            self._idle_since = time.monotonic()
            item = self._inbox.get()
            self.count_idle()
            self._idle_since = None
            self._handle(item)
        while not self._closing:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._handle(item)

    def _handle(self, item: EngineRequest | _Cancel | _Call) -> None:
        if isinstance(item, EngineRequest):
            self._admit(item)
        elif isinstance(item, _Cancel):
            if self._active.pop(item.id, None) is not None:
                self.engine.abort_request([item.id])
                self.may_hold_nan = True
        elif item.future.set_running_or_notify_cancel():
            try:
                item.future.set_result(item.run())
            except Exception as error:  # noqa: BLE001 - raised again where the call is awaited
                item.future.set_exception(error)

    def _admit(self, request: EngineRequest) -> None:
        if self._fault:
            self._answer([(request, EngineError(self._fault))])
            return
        began = self.version if request.begun is None else request.begun.last_version
        if (request.version, began) != (self.version, self.version):
            self._finish([(request, NO_OUTPUT, "abort")])
            return
        try:
            request.internal_id = self.engine.add_request(
                request.id, {"prompt_token_ids": request.token_ids}, request.params
            )
        except Exception as error:  # noqa: BLE001 - vLLM's validation error is none of ours
            self._answer([(request, ValueError(f"vLLM refused the request: {error}"))])
            return
        self._active[request.id] = request

    def _step(self) -> None:
        started = time.monotonic()
        outputs = [out for out in self.engine.step() if out.request_id in self._active]
        self._finish([self._outcome(out) for out in outputs])
        for out in outputs:
            del self._active[out.request_id]
        self.stepped_at = time.monotonic()
        self._counters.add({"engine/steps": 1, "engine/busy_s": self.stepped_at - started})

    def _outcome(self, out: Any) -> tuple[EngineRequest, Any, FinishReason]:
        request = self._active[out.request_id]
        if request.agrees(out):
            return request, out.outputs[0], out.outputs[0].finish_reason
        request.begun = None
        return request, NO_OUTPUT, "abort"

    def _finish(self, finished: list[tuple[EngineRequest, Any, FinishReason]]) -> None:
        """Turn vLLM's outputs into rollouts, count them and hand them over."""
        if not finished:
            return
        texts = self._decode([whole_ids(output, request.begun) for request, output, _ in finished])
        answers: list[tuple[EngineRequest, Answer]] = []
        for (request, output, reason), text in zip(finished, texts, strict=True):
            rollout = to_rollout(output, reason, text, self.version, request.begun)
            count_rollout(self._counters, rollout, request.begun)
            assert rollout.inference_logprobs is not None, "rollouts are asked for with log-probs"
            self.may_hold_nan |= not is_finite([rollout.inference_logprobs])
            answers.append((request, rollout))
        self._answer(answers)

    def _answer(self, answers: Iterable[tuple[EngineRequest, Answer]]) -> None:
        """One wake-up per event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[EngineRequest, Answer]]] = {}
        for answer in answers:
            by_loop.setdefault(answer[0].loop, []).append(answer)
        for loop, share in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, share)
            except RuntimeError:  # the loop was closed: nobody is left to wait
                self._counters.add({"engine/unclaimed": len(share)})

    def _close(self) -> None:
        self._closing = True
        self._fault = "the inference engine was closed"
        try:
            self.abort_all()
        finally:
            self._shut_down()

    def _demand_thread(self) -> None:
        if not self._thread.is_alive():
            raise EngineError("the inference engine was closed")

    def _become_owner(self) -> None:
        """vLLM keeps its process groups in globals, which the first shutdown takes from all."""
        owner = SteppingThread._owner
        if owner is not self and owner is not None and owner.engine is not None:
            raise EngineError(
                "a process holds one vLLM engine at a time; with rollout.num_engines above 1 use "
                "cluster.mode = 'ray', which gives each its own process"
            )
        SteppingThread._owner = self

    def _shut_down(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.engine_core.shutdown()
            del engine
            gc.collect()  # the engine is full of cycles; without this two models are in memory


def _resolve(answers: list[tuple[EngineRequest, Answer]]) -> None:
    for request, answer in answers:
        if request.future.done():
            continue
        if isinstance(answer, Exception):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)

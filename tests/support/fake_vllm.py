"""A vLLM that samples nothing real but refuses every call that a recorded version would refuse.

Its classes are made from `vllm_signatures`: a name that the version lacks is missing here, a
call binds to that version's parameters or raises. Behind them is one worker in this process with
the version's own order of a weight update; what 0.23 does itself, it does not ask of the engine.
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import importlib
import inspect
import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from actors.engines import _vllm
from actors.engines._vllm import inputs
from tests.support.vllm_signatures import signatures

BASE = "distributed/weight_transfer/base"
KNOWN = 128
"""Size of the vocabulary; the fake samples token 5 with log-prob -0.5."""


class Recorded:
    """Makes modules and classes whose calls are checked against one version's signatures."""

    def __init__(self, version: str) -> None:
        self.table = signatures(version)

    def __contains__(self, name: str) -> bool:
        return self.table[name] is not None

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        signature = self.table[name]
        assert signature is not None, f"this version has no {name}"
        return dict(signature.parameters)

    def checked(self, name: str, function: Any) -> Any:
        """`function`, reached only by calls that the recorded one would take."""
        signature = self.table[name]
        assert signature is not None

        def call(*args: Any, **kwargs: Any) -> Any:
            signature.bind(*args, **kwargs)
            return function(*args, **kwargs)

        return call

    def methods(self, prefix: str, behaviour: type) -> dict[str, Any]:
        """The methods that the version has, with `behaviour` behind them."""
        found = {}
        for name in self.table:
            owner, _, method = name.rpartition(".")
            if owner == prefix and name in self:
                found[method] = self.checked(name, getattr(behaviour, method))
        return found

    def fields(self, name: str) -> type:
        """A dataclass with the recorded fields; None stands for each default."""
        columns = []
        for parameter in list(self.parameters(name).values())[1:]:
            default = dataclasses.MISSING if parameter.default is inspect.Parameter.empty else None
            keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            columns.append(
                (parameter.name, Any, dataclasses.field(default=default, kw_only=keyword_only))
            )
        return dataclasses.make_dataclass(name.rpartition(":")[2], columns)


class Model:
    """Takes in whatever it is given."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def load_weights(self, tensors: Any) -> None:
        self.weights.update((name, tensor.clone()) for name, tensor in tensors)

    def modules(self) -> list[Any]:
        return []


class Worker:
    """One vLLM worker: a weight-transfer engine, a model, a KV cache and the extension's methods.

    Attributes:
        acts: What was done to the model, in order.
    """

    def __init__(self, recorded: Recorded, engine_class: type, extension: type) -> None:
        self.recorded = recorded
        self.acts: list[str] = []
        self.model = Model()
        self.model_runner = SimpleNamespace(
            model=self.model, kv_caches=[torch.ones(4), (torch.ones(2), torch.ones(2))]
        )
        self.extension = extension
        parts = {
            "config": None,
            "parallel_config": None,
            "vllm_config": SimpleNamespace(parallel_config=None, model_config=None),
            "device": torch.device("cpu"),
            "model": self.model,
        }
        wanted = list(recorded.parameters(f"{BASE}:WeightTransferEngine.__init__"))[1:]
        self.weight_transfer_engine = engine_class(*(parts[name] for name in wanted))
        self.does_layerwise_itself = "load_weights" in recorded.parameters(
            f"{BASE}:WeightTransferEngine.receive_weights"
        )

    def start_weight_update(self) -> None:
        assert "started" not in self.acts
        self.acts.append("started")
        if not self.does_layerwise_itself:
            self.weight_transfer_engine.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        assert self.acts[0] == "started"
        info = self.weight_transfer_engine.parse_update_info(update_info)
        if self.does_layerwise_itself:
            assert info.update_kind is None, "a dense update, the default"
            self.weight_transfer_engine.receive_weights(info, load_weights=self.model.load_weights)
        else:
            self.weight_transfer_engine.receive_weights(info)
        self.acts.append("updated")

    def finish_weight_update(self) -> None:
        if not self.does_layerwise_itself:
            self.weight_transfer_engine.finish_weight_update()
        self.acts.append("finished")

    def call(self, method: str, *args: Any) -> Any:
        self.acts.append(method)
        return getattr(self.extension, method)(self, *args)


class Llm:
    """Behaviour of `AsyncLLM`: one token per request every millisecond."""

    worker: Worker
    recorded: Recorded
    last: Llm

    def start(self, recorded: Recorded, args: Any, registry: dict[str, type]) -> None:
        module, _, name = args.worker_extension_cls.rpartition(".")
        extension = getattr(importlib.import_module(module), name)
        self.recorded, self.args = recorded, args
        self.worker = Worker(recorded, registry[args.weight_transfer_config.backend], extension)
        self.model_config = SimpleNamespace(get_vocab_size=lambda: KNOWN)
        self.version, self.is_errored, self.is_paused = "default", False, False
        self.aborted: set[str] = set()
        self.num_tokens, self.most_tokens = 0, 1000  # made in all; of one request
        Llm.last = self

    def errored(self) -> bool:
        return self.is_errored

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str, **_: Any) -> Any:
        tokens = 0
        while tokens < sampling_params.max_tokens and request_id not in self.aborted:
            await asyncio.sleep(0.001)
            if self.is_errored:
                raise RuntimeError("EngineCore encountered an issue")
            if not self.is_paused and tokens < self.most_tokens:
                tokens += 1
                self.num_tokens += 1
        output = self.output(tokens, "abort" if request_id in self.aborted else "length")
        flat = None
        if sampling_params.prompt_logprobs is not None:
            flat = SimpleNamespace(logprobs=[-0.5] * (len(prompt["prompt_token_ids"]) - 1))
        yield SimpleNamespace(outputs=[output], finished=True, prompt_logprobs=flat)

    def output(self, tokens: int, reason: str) -> Any:
        known = self.recorded.parameters("outputs:CompletionOutput")
        spans = {}
        if "weight_versions" in known:
            spans["weight_versions"] = [SimpleNamespace(version=self.version)]
        kind = self.recorded.fields("outputs:CompletionOutput")
        return kind(
            index=0,
            text="",
            token_ids=[5] * tokens,
            cumulative_logprob=None,
            logprobs=SimpleNamespace(logprobs=[-0.5] * tokens),
            finish_reason=reason,
            **spans,
        )

    async def abort(self, request_id: Any, internal: bool = False) -> None:
        self.aborted |= {request_id} if isinstance(request_id, str) else set(request_id)

    async def pause_generation(self, *, mode: str = "abort", clear_cache: bool = True) -> None:
        assert (mode, clear_cache) == ("abort", True)
        self.is_paused = True

    async def resume_generation(self) -> None:
        self.is_paused = False

    async def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[Any, ...] = ()
    ) -> list[Any]:
        """As through vLLM's sockets: arguments are plain types, each worker's answer is listed."""
        return [self.worker.call(method, *json.loads(json.dumps(args)))]

    async def start_weight_update(self) -> None:
        assert self.is_paused, "an update without a pause kills the engine"
        self.worker.acts.clear()
        self.worker.start_weight_update()

    async def update_weights(self, request: Any) -> None:
        self.worker.update_weights(request.update_info)

    async def finish_weight_update(self) -> None:
        self.worker.finish_weight_update()

    async def update_weight_version(self, new_version: str) -> None:
        self.version = new_version

    def shutdown(self, timeout: float | None = None) -> None:
        self.worker.weight_transfer_engine.shutdown()


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Put a fake of `version` (empty: the installed one's signatures) in vLLM's place."""
    recorded, registry = Recorded(version), {}

    def llm_from(engine_args: Any) -> Any:
        llm = async_llm()
        llm.start(recorded, engine_args, registry)
        return llm

    methods = recorded.methods(
        "v1/engine/async_llm:AsyncLLM",
        type("Behaviour", (Llm,), {"from_engine_args": lambda cls, args: llm_from(args)}),
    )
    methods["errored"] = property(methods["errored"])
    methods["from_engine_args"] = classmethod(methods["from_engine_args"])
    state = {name: getattr(Llm, name) for name in ("start", "output")}
    async_llm = type("AsyncLLM", (), {**methods, **state})

    names = [name for name in recorded.table if name.startswith(f"{BASE}:WeightTransferEngine.")]
    demanded = {
        name.rpartition(".")[2]: abc.abstractmethod(lambda *_: None)
        for name in names
        if name in recorded and not name.endswith(("__init__", "parse_update_info"))
    }

    def init(self: Any, *args: Any) -> None:
        bound = recorded.table[f"{BASE}:WeightTransferEngine.__init__"].bind(self, *args)
        self.model = bound.arguments["model"]
        self.model_config = None

    base_engine = abc.ABCMeta(
        "WeightTransferEngine",
        (),
        {
            **demanded,
            "__init__": init,
            "parse_update_info": lambda self, info: self.update_info_cls(**info),
        },
    )
    factory = type("WeightTransferEngineFactory", (), {"_registry": registry})
    factory.register_engine = recorded.checked(
        "distributed/weight_transfer/factory:WeightTransferEngineFactory.register_engine",
        lambda cls, name, engine: registry.__setitem__(name, engine),
    ).__get__(factory)
    reload = "model_executor/model_loader/reload/layerwise"
    modules: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": recorded.fields("sampling_params:SamplingParams")},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(FINAL_ONLY=2)},
        "vllm.engine.arg_utils": {
            "AsyncEngineArgs": recorded.fields("engine/arg_utils:EngineArgs")
        },
        "vllm.v1.engine.async_llm": {"AsyncLLM": async_llm},
        "vllm.config.weight_transfer": {
            "WeightTransferConfig": recorded.fields("config/weight_transfer:WeightTransferConfig")
        },
        "vllm.distributed.weight_transfer.base": {
            "WeightTransferEngine": base_engine,
            **{
                name: recorded.fields(f"{BASE}:{name}")
                for name in (
                    "WeightTransferInitInfo",
                    "WeightTransferUpdateInfo",
                    "WeightTransferUpdateRequest",
                )
            },
        },
        "vllm.distributed.weight_transfer.factory": {"WeightTransferEngineFactory": factory},
        "vllm.model_executor.model_loader.reload": {
            name: recorded.checked(f"{reload}:{name}", lambda *_: None)
            for name in ("initialize_layerwise_reload", "finalize_layerwise_reload")
        },
        "vllm.model_executor.layers.vocab_parallel_embedding": {"VocabParallelEmbedding": Model},
    }
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    for name, members in modules.items():
        for end in range(1, len(name.split(".")) + 1):
            part = ".".join(name.split(".")[:end])
            if part not in modules or part == name:
                module = sys.modules.get(part) or ModuleType(part)
                module.__path__ = []  # type: ignore[attr-defined]
                monkeypatch.setitem(sys.modules, part, module)
        vars(sys.modules[name]).update(members)
    monkeypatch.delitem(sys.modules, "actors.engines._vllm.weights", raising=False)
    monkeypatch.delattr(_vllm, "weights", raising=False)
    ours = importlib.import_module("actors.engines._vllm.weights")
    monkeypatch.setitem(sys.modules, "actors.engines._vllm.weights", ours)
    monkeypatch.setattr(_vllm, "weights", ours)
    inputs.rollout_params.cache_clear()

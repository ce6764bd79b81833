"""(c) A publication, over the engine's bare `load_weights` with re-packing; and its parts.

    python -m tests.bench.publication [MODEL]

A publication is all of it: probe, gathering, finiteness, digest and copy into Ray's object store
on the learner's side; abort, check, map, digest, load, re-packing, emptied caches and the probe on
the engine's. Bare is vLLM's start, update and finish on tensors that lie ready, with the packing of
the tied head. Trainer and engine are in one process, on one thread; medians of several.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.engines import vllm_inprocess
from deploy.processes import start_local_ray
from learner import trainer
from oapl.config import RunConfig
from oapl.weights import object_store
from oapl.weights.base import Manifest
from tests.bench import table
from tests.bench.pipeline import LARGE_BYTES, dtype_of

ROUNDS, WARM_UP = 7, 2
LIMIT_MS = 60.0
"""For a publication of the quickstart's model, where fixed costs rule."""


def measure(model: Path, name: str) -> list[table.Row]:
    start_local_ray(num_cpus=2, object_store_bytes=2 * 2**30)
    config = RunConfig(
        run={"dir": os.environ["OAPL_BENCH_FOLDER"], "name": "publication"},
        model={"path": str(model), "dtype": dtype_of(model)},
        rollout={"context_tokens": 256, "engine_options": {"max_num_seqs": 64}},
        learner={"precision": "fp32"},
        sync={"probe_bound": 2.0},
    )
    learner = trainer.build(config)
    engine = vllm_inprocess.build(config, receiver=object_store.build_receiver(config), index=0)
    seconds = _publish(learner, engine)
    seconds["bare load"] = _bare(learner, engine, config)
    seconds["learner's probe"] = _median(lambda: learner._probe(0))
    seconds["digest"] = _median(lambda: _digest(learner, config))
    learner.close()
    engine.close()
    whole, bare = seconds["export"] + seconds["load"], seconds["bare load"]
    is_small = sum(f.stat().st_size for f in model.glob("*.safetensors")) < LARGE_BYTES
    return [
        table.Row(
            what="(c) publication over " + ("60 ms" if is_small else "bare load_weights"),
            model=name,
            ours=1000 * whole,
            theirs=LIMIT_MS if is_small else 1000 * bare,
            unit="ms",
            ratio=1000 * whole / LIMIT_MS if is_small else whole / bare,
            bar=1.0 if is_small else 1.6,
            at_least=False,
            parts={key: 1000 * value for key, value in seconds.items()},
        )
    ]


def _publish(learner: trainer.Trainer, engine: vllm_inprocess.VllmInprocess) -> dict[str, float]:
    """Median seconds of the two halves, and of the engine's probe within the second."""
    export, load, within = [], [], []
    for version in range(ROUNDS + WARM_UP):
        started = time.perf_counter()
        weights = learner.export(version)
        exported = time.perf_counter()
        assert weights is not None
        report = asyncio.run(engine.load(weights))
        loaded = time.perf_counter()
        if version >= WARM_UP:
            export.append(exported - started)
            load.append(loaded - exported)
            within.append(loaded - exported - report.load_s)
    return {
        "export": statistics.median(export),
        "load": statistics.median(load),
        "engine's probe": statistics.median(within),
    }


def _bare(
    learner: trainer.Trainer, engine: vllm_inprocess.VllmInprocess, config: RunConfig
) -> float:
    from actors.vllm_weights import repack_tied_heads

    ready = list(_tensors(learner, config))

    def load() -> None:
        vllm = engine._thread.engine
        vllm.reset_prefix_cache()
        vllm.collective_rpc("start_weight_update")
        vllm.collective_rpc("update_weights", kwargs={"update_info": {"tensors": iter(ready)}})
        vllm.collective_rpc("finish_weight_update")
        vllm.collective_rpc(_repack)

    def _repack(worker: Any) -> None:
        repack_tied_heads(worker.model_runner.model)

    return _median(lambda: engine._thread.call(load).result(600))


def _digest(learner: trainer.Trainer, config: RunConfig) -> None:
    """What names, finiteness and contents of a publication cost, on one side."""
    manifest = Manifest(0)
    for name, tensor in _tensors(learner, config):
        manifest.add(name, tensor)
    manifest.digest()


def _tensors(learner: trainer.Trainer, config: RunConfig) -> Iterator[tuple[str, Any]]:
    import torch

    dtype = getattr(torch, config.model.dtype)
    for name, parameter in learner.engine.module.lm.named_parameters():
        yield name, parameter.detach().to(dtype)


def _median(run: Callable[[], Any]) -> float:
    found = []
    for index in range(ROUNDS + WARM_UP):
        started = time.perf_counter()
        run()
        if index >= WARM_UP:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


if __name__ == "__main__":
    table.main(measure)

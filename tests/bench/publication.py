"""(c) A publication, over the engine's bare `load_weights` with re-packing; and its parts.

    python -m tests.bench.publication [MODEL]

A publication is all of it: gathering, casting, finiteness, digest, copy into Ray's object store and
the scores of the probe on the learner's side; abort, check, map, digest, load, re-packing and the
scores on the engine's, which begins when the first chunk has come. `LearnerGroup` asks for it, as
in a run. Bare is vLLM's start, update and finish on tensors that lie ready, with the packing of the
tied head. Trainer and engine are a process each, as in a run, on one thread each; medians of
several. The parts are each side alone: they do not add up, since both work at once.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.engines import vllm_inprocess
from deploy.processes.handles import RayHandle, SyncHost
from deploy.processes.ray_cluster import start_local_ray
from deploy.processes.roles import environment
from learner.group import LearnerGroup
from learner.surroundings import Surroundings
from oapl.config import RunConfig
from oapl.records import Metrics, ProbeReport, WeightsVersion
from oapl.weights import object_store
from tests.bench import table
from tests.bench.pipeline import LARGE_BYTES, dtype_of

ROUNDS, WARM_UP = 7, 4
PAUSE_S = 1.5
"""Between two publications. Ray frees objects once a second; sooner, each publication would pay for
fresh pages, which it does not when steps lie between."""
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
    learner = _learner(config)
    engine = vllm_inprocess.build(config, receiver=object_store.build_receiver(config), index=0)
    seconds = asyncio.run(_publish(config, learner, engine))
    whole = seconds.pop("publication")
    bare = seconds["bare load"] = asyncio.run(_bare(engine, config))
    engine.close()
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


class Times:
    """The engines of a learner group that has one."""

    def __init__(self, engine: vllm_inprocess.VllmInprocess) -> None:
        self._engine = engine
        self.weights: WeightsVersion | None = None

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        self.weights = weights
        return await self._engine.load(weights)

    async def stats(self) -> Metrics:
        return {}


class Nothing:
    """Stands for the parts of a learner group that a publication does not touch."""

    def phase(self, name: str) -> None: ...

    def alert(self, title: str, text: str) -> None: ...

    def saved(self, checkpoint: Path, step: int) -> None: ...
    def made(self, groups: int, total: int) -> None: ...


def _learner(config: RunConfig) -> Any:
    import ray

    actor = (
        ray.remote(SyncHost)
        .options(num_cpus=1, runtime_env={"env_vars": environment(config, "trainer")})
        .remote("learner.trainer:build", config, str(config.folder / "trainer.log"), {})
    )
    ray.get(actor.start.remote(), timeout=120)
    return RayHandle(actor, "trainer")


async def _publish(
    config: RunConfig, learner: Any, engine: vllm_inprocess.VllmInprocess
) -> dict[str, float]:
    """Median seconds from the request to publish until the engine is ready, then of the parts."""
    times, nothing = Times(engine), Nothing()
    around = Surroundings(replay=nothing, tracker=nothing, store=nothing, engines=times)
    group = LearnerGroup(config, [learner], around)

    async def publish() -> None:
        group.step += 1
        await group.publish(group.step)
        assert engine.version == group.step

    async def send() -> None:
        await learner.announce(0)
        assert times.weights is not None
        for promise in [learner.promise("send_chunk", n) for n in range(len(times.weights.chunks))]:
            await promise

    async def fetch() -> None:
        assert times.weights is not None
        for _ in object_store.Receiver(60.0).receive(times.weights):
            pass

    async def score() -> None:
        assert times.weights is not None
        ids = times.weights.probe_ids
        engine._thread.call(lambda: engine._score(ids)).result(60)

    return {
        "publication": await _median(publish),
        "load": await _median(lambda: engine.load(times.weights)),
        "of which fetching": await _median(fetch),
        "and the engine's probe": await _median(score),
        "sending": await _median(send),
        "learner's probe": await _median(learner.score_probe),
    }


async def _bare(engine: vllm_inprocess.VllmInprocess, config: RunConfig) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    from actors.engines._vllm.models import repack_tied_heads

    dtype = getattr(torch, config.model.dtype)
    model = AutoModelForCausalLM.from_pretrained(config.model.path, dtype=dtype)
    ready = [(name, parameter.detach()) for name, parameter in model.named_parameters()]

    def load() -> None:
        vllm = engine._thread.engine
        vllm.reset_prefix_cache()
        vllm.collective_rpc("start_weight_update")
        vllm.collective_rpc("update_weights", kwargs={"update_info": {"tensors": iter(ready)}})
        vllm.collective_rpc("finish_weight_update")
        vllm.collective_rpc(_repack)

    def _repack(worker: Any) -> None:
        repack_tied_heads(worker.model_runner.model)

    return await _median(lambda: asyncio.wrap_future(engine._thread.call(load)))


async def _median(run: Callable[[], Awaitable[Any]]) -> float:
    found = []
    for index in range(ROUNDS + WARM_UP):
        await asyncio.sleep(PAUSE_S)
        started = time.perf_counter()
        await run()
        if index >= WARM_UP:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


if __name__ == "__main__":
    table.main(measure)

"""The two vLLM hosts side by side: tokens per second, publication, start; and the bare engine.

    python -m tests.bench.engine_throughput [MODEL]

The bare engine is a loop over the in-process host's own `LLMEngine`, on its stepping thread.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.engines._vllm import inputs
from actors.engines.base import ENGINES
from oapl.config import RunConfig
from oapl.interfaces import Engine
from oapl.records import Probe, Prompt, Sampling
from oapl.weights import local
from oapl.weights.base import send
from tests.bench import table

HOSTS = ("vllm_inprocess", "vllm_async")
PROMPTS, PROMPT_TOKENS, IN_FLIGHT, ROLLOUTS, MAX_TOKENS = 64, 20, 512, 1024, 64
ROUNDS, PUBLICATIONS = 3, 8


def measure(model: Path, name: str) -> list[table.Row]:
    found = {host: asyncio.run(_of_host(host, model)) for host in HOSTS}
    first, second = (found[host] for host in HOSTS)
    rows = [
        ("tokens through generate, async beside in-process", "tokens_per_s", "tok/s"),
        ("publication, async beside in-process", "publication_ms", "ms"),
        ("start after the imports, async beside in-process", "start_s", "s"),
    ]
    made = [
        table.Row(
            what=what,
            model=name,
            ours=second[key],
            theirs=first[key],
            unit=unit,
            ratio=second[key] / first[key],
        )
        for what, key, unit in rows
    ]
    bare = table.Row(
        what="tokens through generate over a bare LLMEngine loop",
        model=name,
        ours=first["tokens_per_s"],
        theirs=first["bare_per_s"],
        unit="tok/s",
        ratio=first["tokens_per_s"] / first["bare_per_s"],
    )
    return [bare, *made]


async def _of_host(host: str, model: Path) -> dict[str, float]:
    """Best token rates of some rounds, the median publication, seconds of the start."""
    import torch
    import vllm  # noqa: F401 - its import is not the host's start
    from transformers import AutoModelForCausalLM

    config = RunConfig(
        model={"path": str(model), "dtype": "float32"},
        rollout={"engine": host, "engine_options": {"max_num_seqs": 256}, "context_tokens": 256},
        sync={"transport": "local"},
    )
    learner = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tensors = [(name, p.detach()) for name, p in learner.named_parameters()]
    sender = local.build_sender(config)
    started = time.monotonic()
    engine: Any = ENGINES.load(host).build(config, receiver=local.build_receiver(config), index=0)
    start_s = time.monotonic() - started
    publications = []
    for version in range(PUBLICATIONS):
        weights = send(sender, version, iter(tensors), Probe(token_ids=(), logprobs=()))
        started = time.monotonic()
        await engine.load(weights)
        publications.append(time.monotonic() - started)
    sampling = Sampling(max_tokens=MAX_TOKENS)
    found = {
        "start_s": start_s,
        "publication_ms": 1000 * statistics.median(publications),
        "tokens_per_s": max(
            [await through_generate(engine, ROLLOUTS, sampling) for _ in range(ROUNDS)]
        ),
    }
    if host == "vllm_inprocess":
        found["bare_per_s"] = max(
            [await asyncio.to_thread(bare, engine, ROLLOUTS, sampling) for _ in range(ROUNDS)]
        )
    await asyncio.to_thread(engine.close)
    return found


async def through_generate(engine: Engine, rollouts: int, sampling: Sampling) -> float:
    """Tokens per second of one `generate` per rollout."""
    gate, prompts = asyncio.Semaphore(IN_FLIGHT), _prompts()

    async def one(index: int) -> int:
        async with gate:
            rollout = await engine.generate(prompts[index % PROMPTS], sampling)
            return len(rollout.token_ids)

    started = time.monotonic()
    tokens = sum(await asyncio.gather(*(one(index) for index in range(rollouts))))
    return tokens / (time.monotonic() - started)


def bare(engine: Any, rollouts: int, sampling: Sampling) -> float:
    """Tokens per second of a loop over the in-process host's own engine."""
    thread, params, prompts = engine._thread, inputs.rollout_params(sampling), _prompts()

    def loop() -> float:
        vllm, started, waiting, live, tokens = thread.engine, time.monotonic(), rollouts, 0, 0
        while waiting or live:
            while waiting and live < IN_FLIGHT:
                waiting, live = waiting - 1, live + 1
                ids = prompts[waiting % PROMPTS].token_ids.tolist()
                vllm.add_request(f"bare-{waiting}", {"prompt_token_ids": ids}, params)
            for output in vllm.step():
                live, tokens = live - 1, tokens + len(output.outputs[0].token_ids)
        return tokens / (time.monotonic() - started)

    return thread.call(loop).result(600)


def _prompts() -> list[Prompt]:
    random = np.random.default_rng(0)
    return [
        Prompt(
            id=f"bench:{index}@0",
            text="",
            token_ids=random.integers(3, 100, PROMPT_TOKENS, dtype=np.int32),
            verifiers={},
            reference={},
            source="bench",
        )
        for index in range(PROMPTS)
    ]


if __name__ == "__main__":
    table.main(measure)

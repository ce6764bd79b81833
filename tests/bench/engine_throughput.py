"""Tokens per second of the in-process engine, beside a bare loop over the same `LLMEngine`.

    python -m tests.bench.engine_throughput [MODEL]

Without a model it makes one of 0.5M parameters.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors import vllm_inputs
from actors.engines import vllm_inprocess
from oapl.config import RunConfig
from oapl.records import Prompt, Sampling
from oapl.weights import local

PROMPTS, PROMPT_TOKENS, IN_FLIGHT = 64, 20, 512


async def measure(
    engine: vllm_inprocess.VllmInprocess, *, rollouts: int, max_tokens: int
) -> tuple[float, float]:
    """Tokens per second: through `generate`, and of a bare loop on the stepping thread."""
    sampling = Sampling(max_tokens=max_tokens)
    return (
        await _through_generate(engine, rollouts, sampling),
        await asyncio.to_thread(_bare, engine, rollouts, sampling),
    )


async def _through_generate(
    engine: vllm_inprocess.VllmInprocess, rollouts: int, sampling: Sampling
) -> float:
    gate, prompts = asyncio.Semaphore(IN_FLIGHT), _prompts()

    async def one(index: int) -> int:
        async with gate:
            rollout = await engine.generate(prompts[index % PROMPTS], sampling)
            return len(rollout.token_ids)

    started = time.monotonic()
    tokens = sum(await asyncio.gather(*(one(index) for index in range(rollouts))))
    return tokens / (time.monotonic() - started)


def _bare(engine: vllm_inprocess.VllmInprocess, rollouts: int, sampling: Sampling) -> float:
    thread, params, prompts = engine._thread, vllm_inputs.rollout_params(sampling), _prompts()

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


def main() -> None:
    from tests.makers import make_model

    path = sys.argv[1] if len(sys.argv) > 1 else str(make_model(Path(tempfile.mkdtemp())))
    config = RunConfig(
        model={"path": path, "dtype": "float32"},
        rollout={"engine_options": {"max_num_seqs": 256}},
    )
    engine = vllm_inprocess.build(config, receiver=local.build_receiver(config), index=0)
    for _ in range(4):
        ours, bare = asyncio.run(measure(engine, rollouts=1024, max_tokens=64))
        print(f"engine {ours:,.0f} tok/s, bare loop {bare:,.0f} tok/s, ratio {ours / bare:.2f}")
    engine.close()


if __name__ == "__main__":
    main()

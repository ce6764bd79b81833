"""(a) Tokens per second of the whole rollout pipeline, beside plain `LLM.generate`.

    python -m tests.bench.pipeline [MODEL]

The pipeline is the program's own: replay, a reward server and a worker as Ray actors, `collect`,
log-probs, math rewards, groups taken and closed. Plain is `vllm.LLM.generate` on the same prompts,
with log-probs and the same engine settings. Both make the same number of rollouts from the first
prompt to the last group, each on one thread; each twice, in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.data.tokenizer import load_tokenizer
from actors.engines import vllm_inprocess
from deploy.processes.launch import connect
from deploy.processes.ray_cluster import start_local_ray
from oapl.config import RunConfig
from oapl.records import Probe
from oapl.weights import object_store
from oapl.weights.base import send
from tests.bench import table

GROUP_SIZE, ROUNDS = 8, 2
SIZES = {"small": (256, 64), "large": (64, 32)}
"""Prompts and longest response, for a model that takes well under a second a token, and others."""
LARGE_BYTES = 50e6


def measure(model: Path, name: str) -> list[table.Row]:
    start_local_ray(num_cpus=2)
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    num_prompts, max_tokens = size_of(model)
    prompts = make_prompts(folder / "prompts.jsonl", num_prompts)
    ours, plain = [], []
    for index in range(ROUNDS):
        config = configure(folder, f"pipeline-{index}", model, prompts, max_tokens)
        ours.append(asyncio.run(through_pipeline(config)))
        plain.append(through_generate(config, prompts))
    rate = sum(tokens for tokens, _ in ours) / sum(seconds for _, seconds in ours)
    bare = sum(tokens for tokens, _ in plain) / sum(seconds for _, seconds in plain)
    return [
        table.Row(
            what="(a) rollout pipeline over LLM.generate",
            model=name,
            ours=rate,
            theirs=bare,
            unit="tokens/s",
            ratio=rate / bare,
            bar=0.75 if max_tokens == SIZES["small"][1] else 0.90,
        )
    ]


def size_of(model: Path) -> tuple[int, int]:
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return SIZES["small" if weights < LARGE_BYTES else "large"]


def make_prompts(path: Path, count: int) -> Path:
    """Sums as the quickstart asks them."""
    rows = [
        {"prompt": f"Calculate {a} + {b} + {a * b % 7}.", "answer": str(a + b + a * b % 7)}
        for a, b in ((index % 17, index // 17) for index in range(count))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configure(
    folder: Path, name: str, model: Path, prompts: Path, max_tokens: int, **sections: Any
) -> RunConfig:
    settings: dict[str, Any] = {
        "run": {"dir": str(folder), "name": name, "max_steps": 10**6},
        "model": {"path": str(model), "dtype": dtype_of(model)},
        "data": {"sources": [{"name": "sums", "path": str(prompts)}], "epochs": 1},
        "rollout": {
            "group_size": GROUP_SIZE,
            "max_tokens": max_tokens,
            "max_groups_in_flight": 32,
            "context_tokens": 256,
            "engine_options": {"max_num_seqs": 256},
        },
        "sync": {"interval": 10**6, "probe_sequences": 1, "probe_bound": 2.0},
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    return RunConfig(**settings)


def dtype_of(model: Path) -> str:
    """As it is stored: a real model is served in bf16."""
    found = json.loads((model / "config.json").read_text())
    return str(found.get("dtype") or found.get("torch_dtype") or "float32")


async def through_pipeline(config: RunConfig) -> tuple[int, float]:
    """Tokens and seconds from the first hand-out to the last group."""
    config.folder.mkdir(parents=True)
    processes = connect(config)
    try:
        replay = (await processes.start("replay", "replay")).handle
        reward = (await processes.start("reward", "reward-0")).handle
        worker = (
            await processes.start(
                "worker",
                "worker-0.0",
                index=0,
                incarnation=0,
                step=0,
                scorers=(reward,),
                replay=replay,
            )
        ).handle
        await replay.advance(0)
        await worker.load(publish(config))
        tokens, step, started = 0, 0, time.monotonic()
        collecting = asyncio.ensure_future(worker.run())
        while (groups := await replay.take(config.groups_per_step, 600.0)) is not None:
            step += 1
            await replay.trained([group.id for group in groups], step)
            tokens += sum(len(r.token_ids) for g in groups for r in g.scored.group.rollouts)
        seconds = time.monotonic() - started
        await worker.stop()
        await collecting
        return tokens, seconds
    finally:
        await processes.close()


def publish(config: RunConfig) -> Any:
    """The model's own weights as version 0, kept alive by the sender that hangs on the answer."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, config.model.dtype)
    model = AutoModelForCausalLM.from_pretrained(config.model.path, dtype=dtype)
    sender = object_store.build_sender(config)
    publish.sender = sender  # type: ignore[attr-defined]
    probe = Probe(token_ids=(), logprobs=())
    return send(sender, 0, iter([(n, p.detach()) for n, p in model.named_parameters()]), probe)


def through_generate(config: RunConfig, prompts: Path) -> tuple[int, float]:
    """The same rollouts from `vllm.LLM`, as its documentation shows."""
    engine = PlainEngine(config, prompts)
    found = engine.generate()
    engine.close()
    return found


class PlainEngine:
    """`vllm.LLM` with a run's engine settings and the prompts of its data.

    Args:
        config: The run.
        prompts: File of its questions.
    """

    def __init__(self, config: RunConfig, prompts: Path) -> None:
        from vllm import LLM, SamplingParams

        tokenizer = load_tokenizer(config.model.path)
        texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
        self._inputs = [
            {
                "prompt_token_ids": tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}],
                    add_generation_prompt=True,
                    return_dict=False,
                )
            }
            for text in texts
        ]
        options = vllm_inprocess.Config(**config.rollout.engine_options)
        self._llm = LLM(
            model=config.model.path,
            dtype=config.model.dtype,
            max_model_len=config.rollout.context_tokens,
            max_num_seqs=options.max_num_seqs,
            kv_cache_memory_bytes=2**30,
            block_size=options.block_size,
            enforce_eager=True,
            seed=1,
        )
        self._params = SamplingParams(
            n=GROUP_SIZE, temperature=1.0, max_tokens=config.rollout.max_tokens, logprobs=0
        )
        self._llm.generate(self._inputs[:2], self._params, use_tqdm=False)

    def generate(self) -> tuple[int, float]:
        """Tokens and seconds of all rollouts."""
        started = time.monotonic()
        outputs = self._llm.generate(self._inputs, self._params, use_tqdm=False)
        seconds = time.monotonic() - started
        tokens = sum(len(answer.token_ids) for output in outputs for answer in output.outputs)
        return tokens, seconds

    def close(self) -> None:
        """End the engine."""
        self._llm.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    table.main(measure)

"""Memory of one learner rank or one engine, measured in a process of its own.

    python -m tests.support.measured learner|engine MODEL DTYPE [STEPS] [OPTIONS]

Prints one JSON object: bytes by which resident memory rose, at its highest, over what the imports
had taken. `settings` says what is run: the test gives the same to `deploy.sizing`. A rank makes
STEPS learner steps on micro-batches of ever new shapes, with publications and a checkpoint between;
OPTIONS are the objective's, as JSON. `measure` runs it, `foretell` asks `deploy.sizing`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.data.context import context_tokens
from actors.data.tokenizer import load_model_config
from deploy.processes import roles
from deploy.sizing.engine_memory import engine_memory
from deploy.sizing.hardware import this_machine
from deploy.sizing.learner_memory import rank_memory
from deploy.sizing.memory import Memory
from deploy.sizing.shape import critic_of, lengths_of, shape_of
from oapl.config import RunConfig
from oapl.objectives.base import build
from tests.support.objectives import prepares

PROMPT, RESPONSE = 16, 48
ROLLOUTS = 16
STEPS = 4
INTERVAL = 2
"""Steps between publications."""
SEQUENCES = 32
CONTEXT = 256
OAPL = {"name": "oapl"}


def measure(kind: str, model: Path, dtype: str, objective: Mapping[str, Any] = OAPL) -> int:
    """Bytes of a process, as measured in one."""
    words = [kind, str(model), dtype, str(STEPS), json.dumps(objective)]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.support.measured", *words],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout.splitlines()[-1])


def foretell(kind: str, model: Path, dtype: str, objective: Mapping[str, Any] = OAPL) -> Memory:
    """The same as `deploy.sizing` counts it, without what the imports take."""
    config = settings(str(model), dtype, objective=objective)
    shape = shape_of(load_model_config(str(model)))
    if "values" in build(config.objective).declares.needs:
        shape = replace(shape, critic=critic_of(shape))
    lengths = lengths_of(config, context_tokens(config), PROMPT)
    if kind == "learner":
        found = rank_memory(config, shape, lengths.longest)
    else:
        found = engine_memory(config, shape, lengths, this_machine())
    return replace(found, parts={**found.parts, "libraries": 0})


def settings(
    model: str, dtype: str, folder: str = "runs", objective: Mapping[str, Any] = OAPL
) -> RunConfig:
    return RunConfig(
        model={"path": model, "dtype": dtype},
        rollout={
            "max_tokens": RESPONSE,
            "context_tokens": CONTEXT,
            "engine_options": {"max_num_seqs": SEQUENCES, "kv_cache_bytes": 2**27},
        },
        learner={
            "precision": "bf16" if dtype == "bfloat16" else "fp32",
            "micro_batch_tokens": 512,
            "row_tokens": 1,
            "logprob_chunk_tokens": 256,
        },
        objective=dict(objective),
        optimizer={"lr": 1e-6},
        sync={"transport": "disk", "interval": INTERVAL},
        run={"dir": folder},
        cluster={"mode": "local"},
    )


def learner(config: RunConfig, steps: int) -> Any:
    """Steps of two micro-batches: of the first step full ones, later of drawn shapes."""
    import deepspeed  # noqa: F401
    import numpy as np
    from transformers import LlamaForCausalLM  # noqa: F401

    from learner import trainer
    from oapl import batching
    from oapl.objectives.base import build
    from oapl.records import CreditedGroup
    from tests.support.makers import make_group
    from tests.support.publishing import export

    yield
    rank = trainer.build(config)
    objective, chance = build(config.objective), np.random.default_rng(0)
    lengths, prompt = [RESPONSE] * ROLLOUTS, PROMPT
    for step in range(steps):
        scored = make_group(lengths, prompt_length=prompt, seed=step)
        group = CreditedGroup(scored=scored, credit=objective.credit(scored))
        batch = batching.make_batch(
            [group],
            step=step,
            micro_batch_tokens=config.learner.micro_batch_tokens,
            row_tokens=config.learner.row_tokens,
        )
        if step % INTERVAL == 0:
            export(rank, step)
        if step == steps // 2:
            rank.save(Path(config.run.dir) / "checkpoint")
        if prepares(config.objective):
            rank.prepare([batch])
        rank.update(batch)
        lengths = chance.integers(RESPONSE // 4, RESPONSE + 1, ROLLOUTS).tolist()
        prompt = int(chance.integers(PROMPT // 2, PROMPT + 1))


def engine(config: RunConfig) -> Any:
    """As many rollouts at a time as may be, then the log-probs of one whole context."""
    import numpy as np
    import vllm  # noqa: F401
    from vllm.model_executor.models.llama import LlamaForCausalLM  # noqa: F401
    from vllm.v1.engine.llm_engine import LLMEngine  # noqa: F401

    from actors.engines import vllm_inprocess
    from oapl.records import Prompt, Sampling
    from oapl.weights import local

    yield
    made = vllm_inprocess.build(config, receiver=local.build_receiver(config), index=0)
    chance = np.random.default_rng(0)

    async def rollouts(count: int, length: int) -> None:
        prompts = [
            Prompt(
                id=f"test:{index}@0",
                text="",
                token_ids=chance.integers(3, 100, length, dtype=np.int32),
                verifiers={},
                reference={},
                source="test",
            )
            for index in range(count)
        ]
        await asyncio.gather(*[made.generate(p, Sampling(max_tokens=8)) for p in prompts])

    asyncio.run(rollouts(SEQUENCES, CONTEXT - 16))


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


if __name__ == "__main__":
    kind, model, dtype, *more = sys.argv[1:]
    options = json.loads(more[1]) if more[1:] else OAPL
    with tempfile.TemporaryDirectory() as folder:
        config = settings(model, dtype, folder, options)
        if kind == "learner":
            os.environ.update(roles.environment(config, "trainer"))
            run = learner(config, int(more[0]) if more else STEPS)
        else:
            run = engine(config)
        next(run)
        before = resident("VmRSS")
        next(run, None)
        print(json.dumps(resident("VmHWM") - before), flush=True)

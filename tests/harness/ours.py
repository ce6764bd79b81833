"""Our side: `oapl eval` as a person calls it, and the math verifier on any text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.records import Prompt, Rollout
from reward_server.verifiers import base, math

SEQUENCES = 16
"""In flight: with fp32 and two thousand tokens each, 1.5 GB of KV cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `oapl eval` has kept of a greedy answer.

    Attributes:
        prompt, text: As the model saw and wrote it.
        reward: 1 where it counts as right.
        is_cut: It ended at the limit.
    """

    prompt: str
    text: str
    reward: float
    is_cut: bool


def evaluate(
    folder: Path, model: Path, sets: dict[str, Any], max_tokens: int
) -> dict[str, list[Answer]]:
    """Answer sets of problems greedily by `oapl eval`.

    Args:
        folder: For the run.
        model: The model's folder.
        sets: By name: rows of `prompt` and `answer`, and the template.
        max_tokens: Longest answer.
    """
    sources = []
    for name, (rows, template) in sets.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append({"name": name, "path": str(path), "template": template})
    config = RunConfig(
        run={"dir": str(folder), "name": "ours"},
        model={"path": str(model), "dtype": "float32"},
        rollout={"context_tokens": 2048, "engine_options": {"max_num_seqs": SEQUENCES}},
        eval={"sources": sources, "num_samples": 0, "greedy": True, "max_tokens": max_tokens},
        tracking={"console": "off", "wandb": "off"},
    )
    recipe = folder / "recipe.toml"
    recipe.write_text(to_toml(config))
    command = [sys.executable, "-m", "oapl", "eval", str(recipe)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    return {name: _answers(config.folder / "evaluations" / f"eval.{name}.jsonl") for name in sets}


def _answers(path: Path) -> list[Answer]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Answer(
            prompt=row["prompt"],
            text=row["greedy"]["text"],
            reward=row["greedy"]["reward"],
            is_cut=row["greedy"]["finish_reason"] == "length",
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the math verifier made of a text.

    Attributes:
        read: The answer that it found; None where there is none.
        is_right: Its verdict.
    """

    read: str | None
    is_right: bool


def judged(texts: Sequence[str], references: Sequence[str]) -> Iterator[Judged]:
    """Judge texts by the math verifier, as if each had ended by itself.

    Args:
        texts: One per problem.
        references: The right answers.
    """
    verifier = math.build(math.Config())
    for text, reference in zip(texts, references, strict=True):
        prompt, rollout = _prompt(reference), _rollout(text)
        is_right = verifier.verify(prompt, rollout).reward == 1
        yield Judged(read=base.answer_of(prompt, rollout), is_right=is_right)


def _prompt(reference: str) -> Prompt:
    return Prompt(
        id="",
        text="",
        token_ids=np.empty(0, np.int32),
        verifiers={},
        reference={"answer": reference},
        source="",
        question="",
    )


def _rollout(text: str) -> Rollout:
    return Rollout(
        token_ids=np.zeros(1, np.int32),
        inference_logprobs=None,
        finish_reason="stop",
        text=text,
        first_version=0,
        last_version=0,
    )

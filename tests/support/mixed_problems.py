"""Small problems of three kinds, each for a verifier of its own, and responses to imitate.

- `programs`: write a Python program that reads a number and prints another; `code` runs it.
- `instructions`: say something, in keeping with two instructions of IFEval; `ifeval` checks it.
- `puzzles`: reasoning-gym's own short sums, which its scorer judges.

Of the responses to imitate about half are right, so that a model which has learned them knows both
and has something to find out. `is_right` judges without any of our verifiers.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.recipes import sums

Row = dict[str, Any]

RIGHT_SHARE = 0.5
PUZZLE_OPTIONS = {
    "min_terms": 2,
    "max_terms": 3,
    "min_digits": 1,
    "max_digits": 1,
    "operators": ["+"],
    "allow_parentheses": False,
    "allow_negation": False,
}
PUZZLE_TASK = "basic_arithmetic"
WORDS = {"plus": "+", "minus": "-", "times": "*"}
INPUTS = (2, 7, 11)
TOPICS = ("cat", "river", "moon", "garden", "train", "winter")
KEYWORDS = ("small", "green", "old", "quiet")
INSTRUCTIONS: dict[str, str] = {
    "punctuation:no_comma": "Use no commas.",
    "startend:quotation": "Wrap it in double quotation marks.",
    "detectable_format:title": "Give it a title in double angular brackets.",
    "keywords:existence": "Use the word {}.",
}


def write(folder: Path, seed: int, train: int, exam: int) -> None:
    """Write `programs.jsonl`, `instructions.jsonl` and their exams, what to imitate, and a model.

    Args:
        folder: Gets all of it.
        seed: Of problems, responses and weights.
        train: Problems of each kind.
        exam: Problems of each kind in the exam, none of which is trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance, imitated = random.Random(seed), []
    for kind, make in (("programs", _program), ("instructions", _instruction)):
        rows = [make(chance) for _ in range(train + exam)]
        _save(folder / f"{kind}.jsonl", [row for row, _ in rows[:train]])
        _save(folder / f"{kind}_exam.jsonl", [row for row, _ in rows[train:]])
        imitated += [{"prompt": row["prompt"], "response": said} for row, said in rows[:train]]
    imitated += [*_worked_puzzles(chance, seed + 1, train)]
    chance.shuffle(imitated)
    _save(folder / "imitated.jsonl", imitated)
    texts = [f"{row['prompt']}\n{row['response']}" for row in imitated]
    sums.make_model(folder / "model", texts, seed)


def _program(chance: random.Random) -> tuple[Row, str]:
    """A program to write, and one that was written."""
    word, number = chance.choice([*WORDS]), chance.randint(1, 20)
    outputs = [str(_value(value, WORDS[word], number)) for value in INPUTS]
    row = {
        "prompt": f"Write a program that reads n and prints n {word} {number}.",
        "tests": {"inputs": [str(value) for value in INPUTS], "outputs": outputs},
    }
    sign = WORDS[word] if chance.random() < RIGHT_SHARE else chance.choice([*WORDS.values()])
    return row, f"```python\nprint(int(input()){sign}{number})\n```"


def _value(value: int, sign: str, number: int) -> int:
    return {"+": value + number, "-": value - number, "*": value * number}[sign]


def _instruction(chance: random.Random) -> tuple[Row, str]:
    """Two instructions about a topic, and what was said, keeping each or not."""
    topic, keyword = chance.choice(TOPICS), chance.choice(KEYWORDS)
    kinds = sorted(chance.sample([*INSTRUCTIONS], 2))
    asked = [INSTRUCTIONS[kind].format(keyword) for kind in kinds]
    row = {
        "prompt": f"Say something about the {topic}. {' '.join(asked)}",
        "instruction_id_list": kinds,
        "kwargs": [{"keywords": [keyword]} if "keywords" in kind else {} for kind in kinds],
    }
    keeps = {kind: kind in kinds and chance.random() < RIGHT_SHARE for kind in INSTRUCTIONS}
    other = chance.choice([word for word in KEYWORDS if word != keyword])
    said = f"The {topic} is {keyword if keeps['keywords:existence'] else other}"
    said += " and it is here." if keeps["punctuation:no_comma"] else ", and it is here."
    said = f"<<{topic}>> {said}" if keeps["detectable_format:title"] else said
    return row, f'"{said}"' if keeps["startend:quotation"] else said


def _worked_puzzles(chance: random.Random, seed: int, count: int) -> Iterator[Row]:
    import reasoning_gym

    options = {**PUZZLE_OPTIONS, "operators": tuple(PUZZLE_OPTIONS["operators"])}  # type: ignore[arg-type]
    for entry in reasoning_gym.create_dataset(PUZZLE_TASK, seed=seed, size=count, **options):
        off = 0 if chance.random() < RIGHT_SHARE else chance.choice((-1, 1))
        response = f"\\boxed{{{int(entry['answer']) + off}}}"
        yield {"prompt": entry["question"], "response": response}


def is_right(source: str, reference: Mapping[str, Any], response: str) -> float:
    """What a response is worth, by rules of this file that look at the forms it knows.

    Args:
        source: Of the prompt.
        reference: Its columns.
        response: Any text.

    Returns:
        0 to 1; NaN where the response has another form, so that only the verifier can tell.
    """
    return RULES[source](reference, response)


def _program_is_right(reference: Mapping[str, Any], response: str) -> float:
    form = r"```python\nprint\(int\(input\(\)\)([-+*])(0|[1-9]\d?)\)\n```"
    found = re.fullmatch(form, response.strip())
    if not found:
        return float("nan")
    made = [str(_value(value, found[1], int(found[2]))) for value in INPUTS]
    outputs = reference["tests"]["outputs"]
    return sum(a == b for a, b in zip(made, outputs, strict=True)) / len(outputs)


def _keeps_instructions(reference: Mapping[str, Any], response: str) -> float:
    text = response.strip()
    if not text:
        return 0.0
    words = {word for said in reference["kwargs"] for word in said.get("keywords") or ()}
    kept = {
        "punctuation:no_comma": "," not in text,
        "startend:quotation": len(text) > 1 and text[0] == text[-1] == '"',
        "detectable_format:title": bool(re.search(r"<<[^\n<>]*[^\n<> ][^\n<>]*>>", text)),
        "keywords:existence": all(word in text.lower() for word in words),
    }
    asked = reference["instruction_id_list"]
    return sum(kept[kind] for kind in asked) / len(asked)


def _sum_is_right(reference: Mapping[str, Any], response: str) -> float:
    found = re.fullmatch(r"\\boxed\{(\d+)\}", response.strip())
    return float(found[1] == str(reference["answer"])) if found else float("nan")


RULES: dict[str, Callable[[Mapping[str, Any], str], float]] = {
    "programs": _program_is_right,
    "instructions": _keeps_instructions,
    "puzzles": _sum_is_right,
}


def _save(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

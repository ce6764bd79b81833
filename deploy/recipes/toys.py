"""What the toy twins of the published recipes train on: data, a tokenizer, an untrained model.

    python -m deploy.recipes.toys build/toys

Each file has the columns of the public set that it stands for, so that a twin reads it by that
set's own file. The questions are sums of three to five digits, and programs of one line. `oapl sft
deploy/recipes/toy_start.toml` then makes the model that the twins begin with: one that follows each
template, works its sums in steps only now and then, and often picks the wrong operator.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from actors.data.problems import Problem
from actors.data.templates import wording
from deploy.recipes import sums
from oapl.whole_files import written_aside

Row = dict[str, Any]

SEED = 0
TERMS = {"min_terms": 3, "max_terms": 5}
CONTEXT, VOCABULARY = 512, 768
WORKED, IMITATED, TRAINED, HELD_OUT = 2000, 1280, 2000, 32
"""Rows of the files for the start, for PCL's SFT, to train on, and of each evaluation set."""
TERSE_SHARE, WRONG_SHARE = 0.6, 0.5
EXAM = {
    "aime24": ("problem", "answer"),
    "aime25": ("problem", "answer"),
    "amc": ("problem", "answer"),
    "brumo25": ("problem", "answer"),
    "hmmt_feb25": ("problem", "answer"),
    "hmmt_nov25": ("problem", "answer"),
    "math500": ("problem", "answer"),
    "minerva": ("question", "answer"),
    "olympiadbench": ("question", "final_answer"),
    "sums": ("prompt", "answer"),
}
"""Evaluation sets, and what they call question and answer."""
INSTRUCTIONS = {
    "punctuation:no_comma": "Use no commas.",
    "startend:quotation": "Put quotation marks around your answer.",
}
"""Of IFEval's, and how they are asked for."""
OPERATORS = {"plus": "+", "minus": "-", "times": "*"}
NUMBERS = range(2, 42)
INPUTS = (0, 3, 8, 25)
PARTS = 3
"""The programs of DeepCoder are spread over so many files."""
SHOWN = 200
"""Questions in the words of each template that the tokenizer learns from."""


def make(folder: Path) -> Path:
    """Write everything, complete or not at all; what is there already is kept.

    Args:
        folder: To be made.
    """
    if folder.is_dir():
        return folder
    with written_aside(folder) as part:
        part.mkdir()
        chance = random.Random(SEED)
        questions = sums.problems(SEED, **TERMS)
        files = {
            **_to_imitate(questions, chance),
            **_to_train_on(questions),
            **_programs(chance),
            **{name: _exam(questions, *keys) for name, keys in EXAM.items()},
            **_instructions(questions),
        }
        for name, rows in files.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (part / f"{name}.jsonl").write_text(text)
        imitated = [row for rows in files.values() for row in rows if "response" in row]
        sums.make_model(
            part / "model",
            _texts(imitated),
            SEED,
            context=CONTEXT,
            vocabulary=VOCABULARY,
            tags=_tags(),
        )
    return folder


def _to_imitate(questions: Iterator[Row], chance: random.Random) -> Mapping[str, list[Row]]:
    """Sums with answers: boxed, in tags as puzzles want them, and behind a thought where the
    template opens one (DeepScaleR, PCL)."""

    def worked(form: str, number: int) -> list[Row]:
        rows = []
        for row in islice(questions, number):
            steps = "" if chance.random() < TERSE_SHARE else sums.steps(row)
            response = steps + form.replace("#", row["answer"])
            rows.append({"prompt": row["prompt"], "response": response})
        return rows

    return {
        "worked": worked(r"\boxed{#}", WORKED),
        "worked_puzzles": worked("<answer>#</answer>", WORKED),
        "worked_thoughts": worked("</think>\n\\boxed{#}", WORKED),
        "am_deepseek_r1_0528_math": worked("</think>\n\\boxed{#}", IMITATED),
    }


def _to_train_on(questions: Iterator[Row]) -> Mapping[str, list[Row]]:
    def some(number: int = TRAINED) -> list[Row]:
        return list(islice(questions, number))

    return {
        "deepscaler": [_renamed(row, "problem", "answer") for row in some()],
        "orz": [
            {"0": {"value": row["prompt"]}, "1": {"ground_truth": {"value": row["answer"]}}}
            for row in some()
        ],
        "scp116k_agreed": [_renamed(row, "problem", "matched_solution") for row in some(500)],
        "nemotron_math_hard": [_renamed(row, "prompt", "answer") for row in some(300)],
        "puzzles": [{"question": row["prompt"], **row["entry"]} for row in some(500)],
    }


def _exam(questions: Iterator[Row], question: str, answer: str) -> list[Row]:
    return [_renamed(row, question, answer) for row in islice(questions, HELD_OUT)]


def _renamed(row: Row, question: str, answer: str) -> Row:
    return {question: row["prompt"], answer: row["answer"]}


def _instructions(questions: Iterator[Row]) -> Mapping[str, list[Row]]:
    """Sums with an instruction about the answer, in the columns of two public sets."""
    asked: list[tuple[str, list[str], list[Row]]] = [
        (f"{row['prompt']} {words}", [kind], [{}])
        for row, (kind, words) in zip(islice(questions, 300), cycle(INSTRUCTIONS.items()))
    ]
    trained = [
        {"input": text, "args": {"instruction_id_list": kinds, "instruction_kwargs": given}}
        for text, kinds, given in asked[HELD_OUT:]
    ]
    exam = [
        {"prompt": text, "instruction_id_list": kinds, "kwargs": given}
        for text, kinds, given in asked[:HELD_OUT]
    ]
    return {"llama_nemotron_if": trained, "ifeval": exam}


def _programs(chance: random.Random) -> Mapping[str, list[Row]]:
    """One-line programs: to imitate, half of them wrong, and to train on, with tests."""
    problems = [(word, number) for word in OPERATORS for number in NUMBERS]
    chance.shuffle(problems)
    asked = [f"Read a whole number and print it {word} {number}." for word, number in problems]
    rows = [
        {"problem": question, "tests": json.dumps(_tests(*problem))}
        for question, problem in zip(asked, problems, strict=True)
    ]
    imitated = []
    for place in range(WORKED):
        word, number = problems[place % len(problems)]
        if chance.random() < WRONG_SHARE:
            word = chance.choice([other for other in OPERATORS if other != word])
        program = f"```python\nprint(int(input()){OPERATORS[word]}{number})\n```"
        imitated.append({"prompt": asked[place % len(problems)], "response": program})
    files = {f"deepcoder_{part}": rows[part::PARTS] for part in range(PARTS)}
    files["deepcoder_exam"] = rows[:HELD_OUT]  # seen in training: there are few of them
    return {"worked_programs": imitated, **files, "eurus_code": [_eurus(row) for row in rows]}


def _tests(word: str, number: int) -> list[Row]:
    def output(given: int) -> int:
        return {"plus": given + number, "minus": given - number, "times": given * number}[word]

    return [
        {"input": f"{given}\n", "output": f"{output(given)}\n", "testtype": "stdin"}
        for given in INPUTS
    ]


def _eurus(row: Row) -> Row:
    tests = json.loads(row["tests"])
    truth = {name: [test[name[:-1]] for test in tests] for name in ("inputs", "outputs")}
    return {
        "ability": "code",
        "prompt": [
            {"role": "system", "content": "Think before you answer."},
            {"role": "user", "content": row["problem"]},
        ],
        "reward_model": {"ground_truth": json.dumps(truth)},
    }


def _texts(imitated: Sequence[Row]) -> list[str]:
    """Questions in the words of each template, with their answers, as they will be seen."""
    found = [f"{row['prompt']}\n{row['response']}" for row in imitated]
    for name in wording.names():
        words = wording.load(name, "data.template")
        for row in imitated[:: len(imitated) // SHOWN]:
            problem = Problem(source=name, index=0, place=name, prompt=row["prompt"], reference={})
            user = words.asked(problem).question
            text = words.written(user) if words.is_written else f"{words.system}{user}\n"
            found.append(text + row["response"])
    return found


def _tags() -> list[str]:
    tags = [tag for name in wording.names() for tag in wording.load(name, "data.template").tags]
    return list(dict.fromkeys(tags))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deploy.recipes.toys FOLDER")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    print(make(Path(sys.argv[1])))

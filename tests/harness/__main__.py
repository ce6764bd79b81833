"""`make harness`: lm-evaluation-harness's numbers on GSM8K beside those of `oapl eval`.

    python -m tests.harness [--problems N] [--max-tokens N] [--model FOLDER]

The same model (SmolLM2-135M-Instruct, which `make smollm2` makes) answers the same problems
greedily in fp32, by each side with the same prompts: the harness's own task as it is shipped, five
worked examples before the question, and the question alone in the model's chat template. Then each
side judges both sides' answers: what generation and what judging make of a difference is told
apart: two judges may read other things from one text, and each such problem gets its cause.

The harness lives in an environment of its own (build/harness, 1 GB). `record.json` and
docs/lm_eval.md hold versions and counts, no problem and no answer. The exit code is 1 where a
difference has no known cause, and 0, with the reason, where model, data or harness are not at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_server.answers import equality
from tests.harness import document, ours
from tests.harness.causes import UNKNOWN, cause, until
from tests.support import real_data
from tests.support.peers import Peer

HERE = Path(__file__).parent
RECORD, PINS = HERE / "record.json", HERE / "requirements.txt"
HARNESS = Peer(place=Path("build/harness"), pins=PINS, script=HERE / "theirs.py")
MODEL = Path("build/smollm2")
SHOTS, SHOWN = 5, 100
"""Worked examples before a question; rows of the training set that they are drawn from."""
BATCH = 8
BOX = "\nReason step by step, and put the final answer in \\boxed{}."
"""What a chat asks for: our verifier reads a box."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the problems are put.

    Attributes:
        name: Of the set.
        told: The same for people.
        is_chat: The question alone, in the chat template.
    """

    name: str
    told: str
    is_chat: bool


SETTINGS = (
    Setting(name="shots", told="as shipped: 5 examples, plain", is_chat=False),
    Setting(name="chat", told="question alone, chat", is_chat=True),
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    if reason := absent(options.model):
        print(f"not compared: {reason}")
        return 0
    test = real_data.rows("gsm8k_test")[: options.problems]
    theirs = {setting.name: _theirs(options, setting, test) for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            setting.name: _rows_of(setting, theirs[setting.name]["problems"], test)
            for setting in SETTINGS
        }
        mine = ours.evaluate(Path(folder), options.model.absolute(), sets, options.max_tokens)
    told = [
        compared(options, setting, test, theirs[setting.name], mine[setting.name])
        for setting in SETTINGS
    ]
    record = {
        "versions": theirs["shots"]["versions"],
        "model": options.model.name,
        "problems": len(test),
        "max_tokens": options.max_tokens,
        "settings": told,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    document.PAGE.write_text(document.page(record))
    print(f"recorded in {RECORD} and {document.PAGE}")
    return int(any(UNKNOWN in one["causes"] for row in told for one in row["judged"]))


def absent(model: Path) -> str:
    """What is not at hand; empty where all is. The harness is installed if it can be."""
    if not (model / "config.json").is_file():
        return f"{model} holds no model; `make smollm2` makes it"
    try:
        for name in ("gsm8k_train", "gsm8k_test"):
            real_data.rows(name)
        HARNESS.install()
    except real_data.Absent as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"the harness could not be installed ({error})"
    return ""


def _theirs(
    options: argparse.Namespace,
    setting: Setting,
    test: Sequence[Row],
    texts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What the harness answers and how it judges that, or judges of given texts."""
    asked = {
        "model": str(options.model.absolute()),
        "dtype": "float32",
        "threads": os.cpu_count(),
        "batch_size": BATCH,
        "max_tokens": options.max_tokens,
        "is_chat": setting.is_chat,
        "shots": 0 if setting.is_chat else SHOTS,
        "train": [_problem(row, "") for row in real_data.rows("gsm8k_train")[:SHOWN]],
        "test": [_problem(row, BOX if setting.is_chat else "") for row in test],
    }
    return HARNESS.ask(asked if texts is None else {**asked, "texts": [*texts]})


def _problem(row: Row, ending: str) -> Row:
    return {"question": row["prompt"] + ending, "answer": row["solution"]}


def _rows_of(
    setting: Setting, problems: Sequence[Row], test: Sequence[Row]
) -> tuple[list[Row], str]:
    """The problems as `oapl eval` is given them, and their template."""
    if setting.is_chat:
        return [{"prompt": row["prompt"] + BOX, "answer": row["answer"]} for row in test], "chat"
    return [
        {"prompt": problem["prompt"], "answer": row["answer"]}
        for problem, row in zip(problems, test, strict=True)
    ], "plain"


def compared(
    options: argparse.Namespace,
    setting: Setting,
    test: Sequence[Row],
    theirs: Row,
    mine: Sequence[ours.Answer],
) -> dict[str, Any]:
    """Put both sides' answers before both judges, and tell what is found."""
    stop, references = theirs["stop"], [row["answer"] for row in test]
    problems = theirs["problems"]
    stopped = [until(answer.text, stop) for answer in mine]
    judged = {
        "lm-eval": problems,
        "oapl eval": _theirs(options, setting, test, stopped)["problems"],
    }
    pairs = list(zip(mine, problems, strict=True))
    told = {
        "prompts": setting.told,
        "equal prompts": sum(answer.prompt == problem["prompt"] for answer, problem in pairs),
        "equal answers": sum(
            text.strip() == problem["text"].strip()
            for text, problem in zip(stopped, problems, strict=True)
        ),
        "oapl eval itself": sum(answer.reward == 1 for answer in mine),
        "of these answers cut off": sum(answer.is_cut for answer in mine),
        "gone on behind a stop word": sum(
            text != answer.text for text, answer in zip(stopped, mine, strict=True)
        ),
        "judged": [_judged(side, found, references) for side, found in judged.items()],
    }
    print(json.dumps(told, indent=1))
    return told


def _judged(side: str, problems: Sequence[Row], references: Sequence[str]) -> dict[str, Any]:
    """What each judge thinks of one side's answers, and why they differ."""
    texts = [problem["text"] for problem in problems]
    found = list(ours.judged(texts, references))
    return {
        "answers of": side,
        "strict": sum(problem["strict"]["is_right"] for problem in problems),
        "flexible": sum(problem["flexible"]["is_right"] for problem in problems),
        "math": sum(one.is_right for one in found),
        "causes": dict(Counter(_causes(problems, found, references)).most_common()),
    }


def _causes(
    problems: Sequence[Row], found: Sequence[ours.Judged], references: Sequence[str]
) -> Iterator[str]:
    """Why our verdict is not that of their flexible filter."""
    for problem, mine, reference in zip(problems, found, references, strict=True):
        flexible = problem["flexible"]
        if flexible["is_right"] != mine.is_right:
            same, _ = equality.same(flexible["read"], reference)
            yield cause(mine.read, mine.is_right, flexible["read"], reads_right=bool(same))


if __name__ == "__main__":
    sys.exit(main())

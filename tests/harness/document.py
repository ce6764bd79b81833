"""What `make harness` has recorded, as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "lm_eval.md"
HEAD = """# Beside lm-evaluation-harness

Written by `make harness`. The same model answers the same problems of GSM8K greedily in fp32, once
by lm-evaluation-harness's own task `gsm8k` and its Hugging Face model, once by `oapl eval` and
vLLM, given the same prompts. Then each side judges the answers of both, so that a difference of
generation and one of judging are told apart.
"""
JUDGES = {"strict": "lm-eval, strict", "flexible": "lm-eval, flexible", "math": "oapl, `math`"}
FACTS = (
    ("equal prompts", "equal prompts, to the letter"),
    ("equal answers", "equal answers, up to lm-eval's stop words"),
    ("gone on behind a stop word", "answers of `oapl eval` that go on behind a stop word"),
    ("of these answers cut off", "answers of `oapl eval` cut off at the limit"),
    ("oapl eval itself", "right by `oapl eval` as it is run"),
)
NOTES = r"""
What the differences are:

- **Generation.** Two engines sum in another order: where the two likeliest tokens lie closest, an
  answer takes another way from there on. `oapl eval` has no stop words; for the table its answers
  are cut where lm-eval would have stopped.
- **Judging.** lm-eval's strict filter wants the number behind `####`, its flexible one takes the
  last number of the text, wherever it stands, and compares letters. `oapl`'s `math` reads
  `\boxed{}` (or `<answer>`) alone and compares values: what GSM8K's own examples write behind
  `####` is no answer to it unless `reward.options.math.answer_in = "hashes"` says so (here it does
  not), and no number in passing is one.

Every problem on which the flexible filter and `math` disagree has one of the causes in the table;
the command fails where one has none.
"""


def page(record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        record: As `record.json` holds it.
    """
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    total = record["problems"]
    parts = [
        HEAD,
        f"{record['model']}, {total} problems, at most {record['max_tokens']} tokens; {versions}.",
        *(_setting(row, total) for row in record["settings"]),
        NOTES,
    ]
    return "\n".join(parts)


def _setting(row: Mapping[str, Any], total: int) -> str:
    facts = [f"- {told}: {row[name]} of {total}" for name, told in FACTS]
    heading = ["answers of", *(f"right by {told}" for told in JUDGES.values())]
    found = [[one["answers of"], *(str(one[key]) for key in JUDGES)] for one in row["judged"]]
    causes = [
        [one["answers of"], cause, str(number)]
        for one in row["judged"]
        for cause, number in one["causes"].items()
    ]
    lines = [f"\n## Prompts: {row['prompts']}\n", *facts, "", *_table(heading, found)]
    if causes:
        lines += ["", *_table(["answers of", "flexible and `math` differ, as", "problems"], causes)]
    return "\n".join(lines)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heading, ["---"] * len(heading), *rows):
        yield f"| {' | '.join(cells)} |"

"""Our filter's verdicts on given texts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploy.filters._words import Numbers
from deploy.filters.contamination import Config, build
from oapl.config.sections import DataSource
from oapl.groups_file import StoredGroup
from tests.support.makers import make_group


def matches(
    exam: Sequence[str], questions: Sequence[str], words: int, numbers: Numbers
) -> list[str | None]:
    """The longest run of words that each question has of the exam, or None."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exam.jsonl"
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in exam))
        source = DataSource(name="exam", path=str(path), answer_key="")
        judge = build(Config(sources=(source,), words=words, numbers=numbers), 0.0)
    group = StoredGroup.from_scored(make_group([1]))
    found = []
    for text in questions:
        asked = replace(group, prompt=replace(group.prompt, question=text))
        finding = judge.choose(asked).finding
        found.append(None if finding is None else str(finding["match"]))
    return found

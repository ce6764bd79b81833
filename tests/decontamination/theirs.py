"""datatrove's verdicts: run by `python -m tests.decontamination` in an environment of its own.

    python theirs.py < ASKED.json > ANSWERS.json

The index is made by `NGramsDecontIndexer.compute_hashes`, its queries the evaluation questions, and
read by `NGramsDecontFilter.filter`. The indexer's own `run` is passed by: it imports lighteval for
tasks of the hub, even where it is given documents. Imports nothing of ours.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import (
    NGramsDecontConfig,
    NGramsDecontFilter,
    NGramsDecontIndexer,
)
from datatrove.utils.text import TextNormConfig, simplify_text


def main() -> None:
    asked = json.load(sys.stdin)
    packages = ("datatrove", "spacy", "xxhash")
    answers = {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "settings": {"find_query_ngrams": True, "find_overlap_ngrams": False, "language": "eng"},
        "found": [_found(one) for one in asked],
    }
    json.dump(answers, sys.stdout)


def _found(asked: dict[str, Any]) -> dict[str, Any]:
    """The run of words of each question that is in the index, or null; and words where asked."""
    config = NGramsDecontConfig(
        n_grams=asked["words"],
        find_query_ngrams=True,
        find_overlap_ngrams=False,
        norm_config=TextNormConfig(norm_numbers=asked["numbers"] == "alike"),
    )
    with tempfile.TemporaryDirectory() as folder:
        judge = NGramsDecontFilter(folder, config)
        indexer = object.__new__(NGramsDecontIndexer)  # its constructor asks for lighteval
        indexer.config, indexer.tokenizer = config, judge.tokenizer
        indexer.hash_func = judge.hash_func
        hashes = {mark for text in asked["exam"] for mark in indexer.compute_hashes("", text)}
        made = np.array(sorted(hashes), dtype=config.hash_config.np_descr)
        made.tofile(Path(folder) / "exam.index.hashes")
        matches = [_match(judge, text) for text in asked["questions"]]
    words = [
        judge.tokenizer.word_tokenize(simplify_text(text, config.norm_config))
        for text in asked.get("split", ())
    ]
    return {"matches": matches, "words": words}


def _match(judge: NGramsDecontFilter, text: str) -> str | None:
    document = Document(text=text, id="question")
    return None if judge.filter(document) is True else document.metadata["contaminated_ngram"]


if __name__ == "__main__":
    main()

"""Our IFEval instructions against the published verifier (lm-eval's), on every row of the set.

Per row: responses that try to follow it, and odd ones; strict and loose verdicts per instruction
must be equal. The published verifier is installed by `pip install --no-deps -r
deploy/requirements/agreement.txt` (80 MB); without it nothing is compared, and that is said.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reward_server.instructions import _linguistics
from reward_server.instructions.base import bind
from reward_server.verifiers.ifeval import loosened
from tests.support import real_data
from tests.support.instruction_responses import responses

Row = Mapping[str, Any]
PER_ROW = 24


def published() -> types.ModuleType | None:
    """lm-eval's verifier, without the rest of lm-eval and without a download."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        return None
    tasks = types.ModuleType("lm_eval.tasks")
    tasks.__path__ = [os.path.join(next(iter(found.submodule_search_locations)), "tasks")]
    sys.modules.setdefault("lm_eval.tasks", tasks)
    _lay_out_model()
    import langdetect

    langdetect.DetectorFactory.seed = 0
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)  # it repeats texts of no language
    return importlib.import_module("lm_eval.tasks.ifeval.utils")


def differences(verifier: types.ModuleType, row: Row, response: str) -> Iterator[str]:
    """The instructions of a row on which the two disagree about a response."""
    example = verifier.InputExample(
        key=0,
        instruction_id_list=row["instruction_id_list"],
        prompt=row["prompt"],
        kwargs=row["kwargs"],
    )
    checks = [bind(*said) for said in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
    for mode, texts in {"strict": [response], "loose": loosened(response)}.items():
        judge = getattr(verifier, f"test_instruction_following_{mode}")
        theirs = judge(example, response).follow_instruction_list
        ours = [bool(response.strip()) and any(map(check, texts)) for check in checks]
        for kind, own, other in zip(row["instruction_id_list"], ours, theirs, strict=True):
            if own != other:
                yield f"{mode} {kind}: ours {own}, theirs {other}: {response[:200]!r}"


def is_drawn(row: Row) -> bool:
    """Whether the published verifier draws one of the row's options at random."""
    return any(not said.get("letter", "a").isalpha() for said in row["kwargs"])


def main() -> int:
    """1 where the two differ."""
    verifier = published()
    try:
        every = real_data.rows("ifeval")
    except real_data.Absent as error:
        print(f"ifeval: not compared: {error}")
        return 0
    if verifier is None:
        print("ifeval: not compared: lm_eval is not installed")
        return 0
    count, kept, judged, found = 0, Counter[str](), Counter[str](), []
    for row in every:
        if is_drawn(row):
            print(f"ifeval: {row['id']}: the published verifier draws its letter at random")
            continue
        for response in responses(row, random.Random(row["id"]), PER_ROW):
            count += 1
            found += [f"{row['id']} {line}" for line in differences(verifier, row, response)]
            for kind, said in zip(row["instruction_id_list"], row["kwargs"], strict=True):
                judged[kind] += 1
                kept[kind] += bool(response.strip()) and bind(kind, said)(response)
    for kind in sorted(judged):
        print(f"ifeval: {kind:<48} {judged[kind]:>6} verdicts, {kept[kind]:>6} kept")
    for line in found[:20]:
        print(f"ifeval: {line}")
    print(f"ifeval: {count} responses to {len(every)} rows, {len(found)} differences")
    return int(bool(found))


def _lay_out_model() -> None:
    """NLTK's English model where lm-eval looks for it, unless NLTK's own data is there."""
    import nltk
    from nltk.tokenize.punkt import save_punkt_params

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError:
        folder = Path(tempfile.mkdtemp(prefix="nltk-"))
        nltk.data.path.insert(0, str(folder))
        place = folder / "tokenizers" / "punkt_tab"
        place.mkdir(parents=True)
        save_punkt_params(_linguistics.splitter()._params, str(place / "english"))


if __name__ == "__main__":
    sys.exit(main())

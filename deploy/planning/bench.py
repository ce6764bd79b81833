"""Rates from the table of `make bench` (`bench.json`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oapl.errors import InputError
from oapl.planning.rates import MEASURED, Rate

ENGINE, LEARNER, PUBLICATION = "(a) ", "(b) learner step over a bare", "(c) publication"
REWARDS = re.compile(r"\(e\) rewards of (\d+) workers over processes that are given")
OF_REPLAY = "replay_tokens_per_s"
REPLAY = re.compile(r"(\d+) x (\d+) tokens")


def measured(path: Path, model: str, publication_bytes: float) -> dict[str, Rate]:
    """Read what there is.

    Args:
        path: Of the file.
        model: Whose rows, as the table calls it; empty where there is one.
        publication_bytes: Of a publication of the recipe, which is of the bench's model.

    Raises:
        InputError: It is no such table, or has several models and none was chosen.
    """
    rows = _rows(path)
    models = sorted({row["model"] for row in rows if row["what"].startswith((ENGINE, LEARNER))})
    if not model and len(models) == 1:
        model = models[0]
    if models and model not in models:
        raise InputError(
            f"--bench-model {model or '(none)'}: {path} has {', '.join(models)}; choose the one "
            "that is nearest to the recipe's model"
        )
    found: dict[str, float] = {}
    for row in rows:
        told = _of_row(row, model, publication_bytes)
        for name in told.keys() & found.keys() & {OF_REPLAY}:  # a row by length: the slower one
            told[name] = min(told[name], found[name])
        found |= told
    return {name: Rate(value, MEASURED, path.name) for name, value in found.items()}


def _rows(path: Path) -> Sequence[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text())
        rows = [row for row in rows if not row["left_out"]]
        for row in rows:
            row["what"], row["model"], row["ours"] = (
                str(row["what"]),
                str(row["model"]),
                float(row["ours"]),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--rates {path}: is no run folder and no table of `make bench` ({error}); name either"
        ) from error
    return rows


def _of_row(row: dict[str, Any], model: str, publication_bytes: float) -> dict[str, float]:
    """What one row tells, by the name of the rate."""
    what, ours = row["what"], row["ours"]
    if judges := REWARDS.match(what):
        return {"judge_s": int(judges[1]) / ours}
    if what.startswith("(g) replay") and (size := REPLAY.search(row["model"])):
        return {OF_REPLAY: ours * int(size[1]) * int(size[2])}
    if row["model"] != model:
        return {}
    if what.startswith(ENGINE):
        return {"engine_tokens_per_s": ours}
    if what.startswith(LEARNER):
        return {"learner_tokens_per_s": ours}
    if what.startswith(PUBLICATION):
        return {"host_bytes_per_s": publication_bytes / (ours / 1000)}
    return {}

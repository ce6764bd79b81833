"""Pass rates of questions, told by a stored set: a small file beside its shards.

A line per question, `{"question": ..., "id": ..., "pass_rate": ..., "mean_reward": ..., "samples":
...}`. A question is told by a digest of its text, so that the labels fit wherever it stands: under
another name of its source, in another order, beside other rows. What a filter took out of a group
counts, since the question has not changed.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oapl.errors import InputError
from oapl.groups_file.shards import rewards as rewards_of
from oapl.whole_files import written_aside

FILE = "_pass_rates.jsonl"
"""What reads the folder as one table passes over a name that begins so."""
DIGEST_BYTES = 16


@dataclass(slots=True, kw_only=True)
class _Counts:
    """What the groups of a question hold together."""

    id: str
    right: int = 0
    total: float = 0.0
    samples: int = 0


def digest(question: str) -> str:
    """Tell a question from others, in hexadecimal."""
    return hashlib.blake2b(question.encode(), digest_size=DIGEST_BYTES).hexdigest()


def write(folder: Path, threshold: float) -> Path:
    """Write the pass rates of a set beside its shards.

    Args:
        folder: The set.
        threshold: Smallest reward that counts as right.

    Returns:
        The file.

    Raises:
        InputError: The set is damaged.
    """
    counts: dict[str, _Counts] = {}
    for id, question, rewards in rewards_of(folder):
        found = counts.setdefault(digest(question), _Counts(id=id.partition("@")[0]))
        found.right += int(np.count_nonzero(rewards >= threshold))
        found.total += float(rewards.sum())
        found.samples += len(rewards)
    with written_aside(folder / FILE) as part, part.open("w") as file:
        for question, found in counts.items():
            line = {
                "question": question,
                "id": found.id,
                "pass_rate": found.right / found.samples,
                "mean_reward": found.total / found.samples,
                "samples": found.samples,
            }
            file.write(json.dumps(line) + "\n")
    return folder / FILE


def read(path: Path) -> dict[str, float]:
    """Read the pass rates of a file, by the digest of the question.

    Raises:
        InputError: It does not exist, or is no such file.
    """
    rates: dict[str, float] = {}
    try:
        with path.open() as file:
            for number, line in enumerate(file, 1):
                row = json.loads(line)
                question, rate = str(row["question"]), float(row["pass_rate"])
                if not 0 <= rate <= 1 or math.isnan(rate):
                    raise ValueError(f"line {number} has a pass rate of {rate}")
                rates[question] = rate
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); name the {FILE} that oapl eval or oapl "
            "generate wrote beside its groups"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is no file of pass rates ({error}); name the {FILE} that oapl eval or oapl "
            "generate wrote beside its groups"
        ) from error
    return rates

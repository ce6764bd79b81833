"""Stored rollouts of a run, a few of them with all their tokens.

Shards may be large, so what tells rollouts apart is read of all of them and tokens of the chosen
ones alone. Read by column and not as whole groups: a run may store more of a rollout than another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oapl import groups_file
from oapl.errors import InputError
from oapl.tracking.rollouts import FOLDER

LEARNER = "learner_logprobs"
"""Column of the learner's log-probs when it trained on the rollout, where they were kept."""
TOLD = (
    *("step", "version", "id", "question", "prompt", "response", "reward", "credit"),
    *("verdicts", "finish_reason"),
)
TOKENS = ("token_ids", "inference_logprobs", LEARNER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored rollout without its tokens.

    Attributes:
        shard, row: Where it lies.
        told: Its columns `TOLD`.
    """

    shard: Path
    row: int
    told: Mapping[str, Any]

    @property
    def question(self) -> str:
        """The user's own words, else the whole prompt."""
        return str(self.told["question"] or self.told["prompt"])

    @property
    def response(self) -> str:
        """What the model wrote."""
        return str(self.told["response"])

    @property
    def verdicts(self) -> Mapping[str, Mapping[str, Any]]:
        """By verifier name."""
        return dict(json.loads(self.told["verdicts"]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of a stored rollout.

    Attributes:
        ids: int32 [T].
        sampled: float32 [T], log-probs as sampled, nats; None where there are none.
        learner: float32 [T], the learner's when it trained on them; None where none were kept.
    """

    ids: np.ndarray
    sampled: np.ndarray | None
    learner: np.ndarray | None


def stored(folder: Path) -> list[Stored]:
    """List the stored rollouts of a run, in order of steps; none of a run that has stored none.

    Args:
        folder: The run's.

    Raises:
        InputError: A shard is damaged.
    """
    held = folder / FOLDER
    if not groups_file.is_set(held):
        return []
    return [one for shard in groups_file.shards(held) for one in _of_shard(shard)]


def tokens(one: Stored) -> Tokens:
    """Read the tokens of a rollout."""
    table = _read(one.shard, TOKENS)
    row = {name: _array(table[name][one.row].values) for name in table.schema.names}
    ids = row["token_ids"]
    assert ids is not None, "a rollout has tokens"
    return Tokens(ids=ids, sampled=row.get("inference_logprobs"), learner=row.get(LEARNER))


def pieces(ids: np.ndarray, places: Sequence[Path]) -> list[str] | None:
    """Cut the text of tokens where they end: what each adds to the text of those before it.

    Args:
        ids: int [T].
        places: Folders of models, the first with a `tokenizer.json` is taken.

    Returns:
        T texts; None where no folder has a tokenizer.
    """
    file = next((found for one in places if (found := one / "tokenizer.json").is_file()), None)
    if file is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    numbers = [int(number) for number in ids]
    texts: list[str] = []
    before = ""
    for end in range(1, len(numbers) + 1):
        text = tokenizer.decode(numbers[:end], skip_special_tokens=False)
        is_whole = text.startswith(before) and not text.endswith("\ufffd")
        texts.append(text[len(before) :] if is_whole else "")
        before = text if is_whole else before
    return texts


def _of_shard(shard: Path) -> Iterator[Stored]:
    for row, told in enumerate(_read(shard, TOLD).to_pylist()):
        yield Stored(shard=shard, row=row, told=told)


def _read(shard: Path, columns: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = set(pq.read_schema(shard).names)
        return pq.read_table(shard, columns=[name for name in columns if name in there])
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{shard} is damaged, or was written in half ({error}); copy it again, or take it out "
            "of the folder with those after it"
        ) from error


def _array(values: Any) -> np.ndarray | None:
    return None if values is None else np.array(values.to_numpy(zero_copy_only=False))

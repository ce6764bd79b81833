"""Shards of a stored set: written whole, read one by one.

Invariants: a shard is whole or absent, and a group lies in one shard, so that a writer that was
killed goes on from what whole shards hold; all shards of a set say the same of it; what does not
fit the schema is refused before a group of it is given out. Pages carry checksums.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from oapl.errors import InputError, first_line
from oapl.groups_file import rows
from oapl.groups_file.record import FORMAT, Header, StoredGroup
from oapl.whole_files import written_aside

PATTERN = "groups-{:05d}.parquet"
KEY = b"oapl"
"""Of the header in a shard's schema metadata."""
ROWS_PER_SHARD = 4096
TOKENS_PER_SHARD = 2**23
"""Response tokens at which a shard is full, however few its rows: what a writer holds back."""
ROWS_PER_READ = 64


class Writer:
    """Adds groups to a set; a context manager, which closes it unless an exception leaves it.

    Args:
        folder: The set; made where it is not there. One with shards is gone on with.
        header: What the set says of itself.
        rows_per_shard: Rollouts at which a shard is full.

    Raises:
        InputError: The folder holds a set with another header, or a damaged one.
    """

    def __init__(self, folder: Path, header: Header, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self._folder = folder
        self._header = header
        self._rows_per_shard = rows_per_shard
        self._held: list[StoredGroup] = []
        self._num_rows = self._num_tokens = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._next = len(_found(folder))
        if self._next:
            _demand_equal(folder, header, _said(_found(folder)), folder)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()

    def add(self, group: StoredGroup) -> None:
        """Add a group; it is on disk once its shard is full, or after `flush`.

        Raises:
            ValueError: It has no rollouts, or log-probs against what the header says.
        """
        _demand_fitting(group, self._header)
        self._held.append(group)
        self._num_rows += len(group.rollouts)
        self._num_tokens += sum(len(rollout.token_ids) for rollout in group.rollouts)
        if self._num_rows >= self._rows_per_shard or self._num_tokens >= TOKENS_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is held back as a shard."""
        if self._held:
            self._write()

    def close(self) -> None:
        """Flush; a set without groups gets a shard without rows, which says what it is."""
        if self._held or not self._next:
            self._write()

    def _write(self) -> None:
        write_shard(self._folder / PATTERN.format(self._next), self._held, self._header)
        self._next += 1
        self._held = []
        self._num_rows = self._num_tokens = 0


def write_shard(path: Path, groups: Sequence[StoredGroup], header: Header) -> None:
    """Write one shard, whole or not at all.

    Args:
        path: Named as shards are.
        groups: All that it shall hold.
        header: What its set says of itself.
    """
    import pyarrow.parquet as pq

    said = json.dumps(asdict(replace(header, format=FORMAT)))
    table = rows.table_of(groups).replace_schema_metadata({KEY: said})
    with written_aside(path) as part:
        pq.write_table(
            table, part, compression="zstd", row_group_size=256, write_page_checksum=True
        )


def _demand_fitting(group: StoredGroup, header: Header) -> None:
    has = [rollout.inference_logprobs is not None for rollout in group.rollouts]
    if not has:
        raise ValueError(f"group {group.prompt.id} has no rollouts; leave it out of the set")
    if all(has) != (header.logprobs is not None) or any(has) != all(has):
        raise ValueError(
            f"group {group.prompt.id}: {sum(has)} of {len(has)} rollouts have log-probs, but the "
            f"set's header says logprobs = {header.logprobs!r}"
        )


def is_set(folder: Path) -> bool:
    """Whether a folder holds shards."""
    return bool(_found(folder))


def shards(folder: Path) -> list[Path]:
    """Find the shards of a set, in order.

    Raises:
        InputError: There are none, or one is missing.
    """
    found = _found(folder)
    if not found:
        what = "is no folder" if not folder.is_dir() else "holds no stored groups"
        raise InputError(
            f"{folder} {what}; name a folder with {PATTERN.format(0)}, as written by oapl"
        )
    return found


def header(folder: Path) -> Header:
    """Read what a set says of itself.

    Raises:
        InputError: A shard is damaged, foreign, of another format or of another set.
    """
    return _said(shards(folder))


def read(folder: Path) -> Iterator[StoredGroup]:
    """Give the groups of a set in order, holding a few rows of one shard at a time.

    Args:
        folder: The set.

    Raises:
        InputError: See `header`; a damaged page is found when it is reached.
    """
    header(folder)
    for path in shards(folder):
        yield from read_shard(path)


def read_shard(path: Path) -> Iterator[StoredGroup]:
    """Give the groups of one shard in order; its header has been checked (`header`).

    Raises:
        InputError: It is damaged.
    """
    yield from rows.groups_of(row for batch in _batches(path) for row in rows.rows_of(batch))


def ids(folder: Path) -> Iterator[str]:
    """Give the prompt id of each group of a set, in order, reading little else.

    Raises:
        InputError: See `header`.
    """
    yield from (batch["id"][index].as_py() for batch, index in _firsts(folder, ["id"]))


def rewards(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Give id, question and all G rewards of each group of a set, reading no tokens.

    Raises:
        InputError: See `header`.
    """
    for batch, index in _firsts(folder, ["id", "question", "all_rewards"]):
        of_all = np.array(batch["all_rewards"][index].values.to_numpy(zero_copy_only=False))
        yield batch["id"][index].as_py(), batch["question"][index].as_py(), of_all


def _firsts(folder: Path, columns: list[str]) -> Iterator[tuple[Any, int]]:
    """Of each group the first row: the rows that it was read with, and its place among them."""
    header(folder)
    for path in shards(folder):
        last = None
        for batch in _batches(path, ["group", *columns]):
            for index, number in enumerate(batch["group"].to_pylist()):
                if number != last:
                    yield batch, index
                last = number


def _found(folder: Path) -> list[Path]:
    found = sorted(folder.glob("groups-*.parquet"))
    for number, path in enumerate(found):
        if path.name != PATTERN.format(number):
            raise InputError(
                f"{folder} lacks {PATTERN.format(number)} but has {path.name}; shards are numbered "
                "without a gap: copy the set again, whole"
            )
    return found


def _said(paths: Sequence[Path]) -> Header:
    said = _header(paths[0])
    for path in paths[1:]:
        _demand_equal(path, _header(path), said, paths[0])
    return said


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from file.iter_batches(batch_size=ROWS_PER_READ, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _header(path: Path) -> Header:
    """The header of one shard, its columns checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    try:
        said = json.loads((schema.metadata or {})[KEY])
        number = said["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is a Parquet file, but no shard of stored groups (its metadata has no "
            f"{KEY.decode()!r} header); take it out of the folder, or bring it in by oapl import"
        ) from error
    if number not in range(1, FORMAT + 1):
        raise InputError(
            f"{path} has format {number}, this oapl reads 1 to {FORMAT}; make the set again, or "
            "use the version of oapl that wrote it"
        )
    if not schema.equals(rows.schema(number), check_metadata=False):
        what = _difference(schema, rows.schema(number))
        raise InputError(
            f"{path}: its columns are not those of format {number} ({what}); "
            "keep the set as oapl wrote it, and columns of your own in another file"
        )
    return Header(**said)


def _difference(found: Any, expected: Any) -> str:
    ours, theirs = ({field.name: field.type for field in each} for each in (expected, found))
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if not different:
        return "they stand in another order"
    name = different[0]
    return f"{name} is {theirs.get(name, 'missing')}, not {ours.get(name, 'a column')}"


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is damaged, or was written in half ({first_line(error)}); shards are written "
        "whole: copy it again, or delete it and those after it, and make these again"
    )


def _demand_equal(path: Path, found: Header, expected: Header, where: Path) -> None:
    if found == expected:
        return
    theirs, ours = asdict(found), asdict(expected)
    compared = (field.name for field in fields(Header) if field.compare)
    name = next(name for name in compared if theirs[name] != ours[name])
    raise InputError(
        f"{path}: {name} is {theirs[name]!r}, but {where} says {ours[name]!r}; a set is of one "
        "tokenizer, template and way of making: keep different ones in different folders"
    )

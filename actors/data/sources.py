"""A data source becomes problems: files, Hugging Face data sets, generated puzzles.

Whatever is wrong is said with its place (file and line, or row) before anything is started. Rows
keep their number in the file, so that a prompt's id names the same row whatever was dropped.
"""

from __future__ import annotations

import difflib
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from actors.data import text_files
from oapl.config.sections import DataSource
from oapl.errors import InputError, first_line

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
SHOWN = 60
"""Characters of a bad line in its error."""

Row = Mapping[str, Any]
Messages = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row of a source.

    Attributes:
        source, index: Name of the source and number of the row in it, from 0.
        place: File and line, or the like, for error messages.
        prompt: Text, or chat messages that end with the user's.
        reference: What verifiers need: `answer`, every other column; for a generated puzzle its
            `entry` and `task`.
        response: The response to imitate (SFT), None when it was not asked for.
    """

    source: str
    index: int
    place: str
    prompt: str | Messages
    reference: Mapping[str, Any]
    response: str | None = None

    @property
    def question(self) -> str:
        """The user's own words."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1]["content"])

    def with_question(self, question: str) -> Problem:
        """The same problem in other words."""
        if isinstance(self.prompt, str):
            return replace(self, prompt=question)
        return replace(self, prompt=(*self.prompt[:-1], {"role": "user", "content": question}))


def read_problems(source: DataSource, *, with_responses: bool = False) -> list[Problem]:
    """Read every problem of a source, in its order.

    Args:
        source: What to read.
        with_responses: Demand the column with the response to imitate; answers are optional then.

    Raises:
        InputError: The source does not exist, is empty or malformed, or lacks a column.
    """
    if source.task:
        return _puzzles(source)
    problems = [
        _problem(source, index, place, row, with_responses)
        for index, (place, row) in enumerate(read_rows(source))
    ]
    if not problems:
        raise InputError(
            f"source {source.name!r}: {source.path or source.dataset} has no rows; "
            "give at least one problem"
        )
    return problems


def read_rows(source: DataSource) -> Iterator[tuple[str, Row]]:
    """Read place and columns of every row of a file or data set, whatever its columns are called.

    Raises:
        InputError: It does not exist or is malformed.
    """
    if not source.path:
        return _dataset(source)
    path = Path(source.path)
    return _parquet(source, path) if path.suffix == ".parquet" else _json_lines(source, path)


def _json_lines(source: DataSource, path: Path) -> Iterator[tuple[str, Row]]:
    if not path.name.endswith(SUFFIXES):
        raise InputError(
            f"source {source.name!r}: {path} is none of {', '.join(SUFFIXES)}; convert it, or read "
            "it as `dataset` instead of `path`"
        )
    _demand_file(source, path)
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    place = f"{path} line {number}"
                    yield place, _object(line, place)
    except (OSError, EOFError) as error:
        raise InputError(
            f"source {source.name!r}: {path} cannot be read after line {number} ({error}); "
            "check or write the file again"
        ) from error


def _object(line: bytes, place: str) -> Row:
    rule = 'each line must be one JSON object, like {"prompt": "...", "answer": "..."}'
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:  # also what is no UTF-8
        raise InputError(f"{place}: {_start(line)} is not JSON ({error}); {rule}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: {_start(line)} is a {type(row).__name__}; {rule}")
    return row


def _start(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _parquet(source: DataSource, path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    _demand_file(source, path)
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"source {source.name!r}: {path} is no readable Parquet file ({error}); "
            "check or write the file again"
        ) from error
    yield from ((f"{path} row {index}", row) for index, row in enumerate(rows))


def _dataset(source: DataSource) -> Iterator[tuple[str, Row]]:
    """A folder of `save_to_disk`, a folder or file of data, or a hub name."""
    import datasets

    datasets.disable_progress_bars()
    name, path = source.dataset, Path(source.dataset)
    try:
        if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
            found = datasets.load_from_disk(str(path))
            if isinstance(found, datasets.DatasetDict):
                found = found[source.split]
        elif path.is_file():
            kind = {"jsonl": "json", "gz": "json"}.get(path.suffix[1:], path.suffix[1:])
            files = {source.split: str(path)}
            found = _built(datasets.load_dataset_builder(kind, data_files=files), source.split)
        else:
            name = str(path) if path.is_dir() else name
            found = _built(datasets.load_dataset_builder(name, source.subset or None), source.split)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"source {source.name!r}: data set {source.dataset!r}, split {source.split!r}, cannot "
            f"be loaded ({first_line(error)}); give a folder or file that exists, or the name, "
            "`subset` and `split` of a data set on a hub that can be reached"
        ) from error
    yield from ((f"{source.dataset} row {index}", row) for index, row in enumerate(found))


def _built(builder: Any, split: str) -> Iterable[Row]:
    rows = text_files.read(builder, split)
    if rows is not None:
        return rows
    builder.download_and_prepare()
    found: Iterable[Row] = builder.as_dataset(split=split)
    return found


def _puzzles(source: DataSource) -> list[Problem]:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if source.task not in DATASETS:
        near = difflib.get_close_matches(source.task, DATASETS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(DATASETS)} tasks"
        raise InputError(
            f"source {source.name!r}: {source.task!r} is no task of reasoning-gym; {hint}"
        )
    try:
        data = reasoning_gym.create_dataset(
            source.task, size=source.size, seed=source.seed, **source.options
        )
        entries = [data[index] for index in range(source.size)]
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(
            f"source {source.name!r}: task {source.task!r} refuses size {source.size}, options "
            f"{source.options} ({first_line(error)}); what it takes is in reasoning-gym's "
            f"{DATASETS[source.task][1].__name__}"
        ) from error
    return [
        Problem(
            source=source.name,
            index=index,
            place=f"{source.task} puzzle {index}",
            prompt=entry["question"],
            reference={"answer": entry["answer"], "entry": entry, "task": source.task},
        )
        for index, entry in enumerate(map(_plain, entries))
    ]


def _plain(value: Any) -> Any:
    """Without NumPy scalars, which a few tasks leave in an entry: verifiers run without NumPy."""
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _problem(source: DataSource, index: int, place: str, row: Row, is_example: bool) -> Problem:
    prompt = _prompt(_column(source, row, "prompt_key", place), place)
    reference = {key: value for key, value in row.items() if key != source.prompt_key}
    if source.answer_key and not (is_example and source.answer_key not in row):
        reference["answer"] = _answer(_column(source, row, "answer_key", place), place)
    response = None
    if is_example:
        response = _column(source, row, "response_key", place)
        if not isinstance(response, str) or not response:
            raise InputError(
                f"{place}: {source.response_key} is {response!r}; a response to imitate must be "
                "text and not empty"
            )
    return Problem(
        source=source.name,
        index=index,
        place=place,
        prompt=prompt,
        reference=reference,
        response=response,
    )


def _column(source: DataSource, row: Row, setting: str, place: str) -> Any:
    name = getattr(source, setting)
    if name not in row:
        extra = ', or to "" if there is none' if setting == "answer_key" else ""
        raise InputError(
            f"{place}: source {source.name!r} has no column {name!r}; there are "
            f"{', '.join(map(str, row)) or 'none'}; set {setting} to one of them{extra}"
        )
    return row[name]


def _prompt(value: Any, place: str) -> str | Messages:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if not all(_is_message(message) for message in value):
            raise InputError(
                f"{place}: a chat prompt must be a list of messages, each with role and content "
                f"in text; this one is {repr(value)[:SHOWN]}"
            )
        if value[-1]["role"] != "user":
            raise InputError(
                f"{place}: a chat prompt ends with role {value[-1]['role']!r}; the last message "
                "must be the user's, since the model answers it"
            )
        return tuple({"role": m["role"], "content": m["content"]} for m in value)
    raise InputError(
        f"{place}: the prompt is {repr(value)[:SHOWN]}; it must be text that is not blank, or a "
        "list of chat messages"
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )


def _answer(value: Any, place: str) -> Any:
    """Numbers, times and booleans become text, which is what verifiers compare."""
    if value is None:
        raise InputError(f"{place}: the answer is null; a verifier could accept nothing")
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    return str(value) if isinstance(value, int | float | Decimal | date | time) else value


def _demand_file(source: DataSource, path: Path) -> None:
    if path.is_file():
        return
    folder = path.absolute().parent
    near = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*")], n=3)
    hint = f"{folder} has {', '.join(near)}" if near else f"looked in {folder}"
    raise InputError(
        f"source {source.name!r}: {path} {'is no file' if path.exists() else 'does not exist'}; "
        f"{hint}; paths are relative to the directory in which the command is given"
    )

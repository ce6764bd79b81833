"""Where problems come from: files, Hugging Face data sets, generated puzzles.

Whatever is wrong is said with its place (file and line, or row) before anything is started. Rows
keep their number in the file, so that a prompt's id names the same row whatever was dropped.
"""

from __future__ import annotations

import difflib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actors.data import difficulty, hub, text_files
from actors.data.messages import SHOWN
from actors.data.problems import Problem, Row, is_wanted, read_row
from actors.data.puzzles import Puzzle, puzzles
from oapl.config.sections import DataSource
from oapl.errors import InputError, first_line, with_count

SAMPLE_STREAM = 0x5A3E
"""Keeps the draw of a sample apart from other uses of its seed."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def read_problems(source: DataSource, *, with_responses: bool = False) -> list[Problem]:
    """Read the problems that a source asks for, in its order.

    Args:
        source: What to read.
        with_responses: Demand the column with the response to imitate; answers are optional then.

    Raises:
        InputError: The source does not exist, is empty or malformed, or lacks a column.
    """
    return sampled(source, difficulty.chosen(source, read_all(source, with_responses)))


def read_all(source: DataSource, with_responses: bool) -> list[Problem]:
    """Read its problems of whatever pass rate.

    Args:
        source: What to read.
        with_responses: As of `read_problems`.

    Raises:
        InputError: As of `read_problems`.
    """
    if source.task:
        return [_puzzle_problem(source, *item) for item in enumerate(puzzles([source])[0])]
    problems, failed = [], []
    for index, (place, row) in enumerate(read_rows(source)):
        try:
            if is_wanted(source, row, place):
                made = read_row(source, index, place, row, with_response=with_responses)
                problems.append(made)
        except InputError as error:
            failed.append(str(error))
    if failed:
        raise InputError(with_count(failed, len(problems) + len(failed)))
    if not problems:
        wanted = f" with {source.where}" if source.where else ""
        raise InputError(
            f"source {source.name!r}: {source.path or source.dataset} has no rows{wanted}; "
            "give at least one problem"
        )
    return problems


def sampled(source: DataSource, problems: list[Problem]) -> list[Problem]:
    """Take some of the problems, in their order, where a source asks for a sample.

    Args:
        source: Says how many.
        problems: To draw from.

    Raises:
        InputError: There are fewer.
    """
    if not source.sample:
        return problems
    if source.sample > len(problems):
        raise InputError(
            f"source {source.name!r}: sample = {source.sample}, but there are {len(problems)} "
            "rows; ask for at most so many, or leave it out for all"
        )
    chance = np.random.default_rng([source.seed, SAMPLE_STREAM])
    chosen = chance.choice(len(problems), size=source.sample, replace=False)
    return [problems[index] for index in sorted(chosen)]


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
        row = text_files.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also what is no UTF-8
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
    hub.ask_for(name)
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


def _puzzle_problem(source: DataSource, index: int, puzzle: Puzzle) -> Problem:
    reference = {"answer": puzzle.entry["answer"], "entry": puzzle.entry, "task": puzzle.task}
    if puzzle.options:
        reference["options"] = puzzle.options
    return Problem(
        source=source.name,
        index=index,
        place=f"{source.task} puzzle {index}",
        prompt=puzzle.entry["question"],
        reference=reference,
    )


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

"""The JSON and CSV files behind a Hugging Face data set, read as they stand.

`datasets` guesses one type per column: where every answer reads like 2021-05-03 they become times,
in a CSV file 007 becomes 7, and one fraction makes a fraction of every number. A reference answer
must stay what was written: also a number of JSON, whose last zero says how exact an answer is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

Rows = list[dict[str, Any]]


class WrittenFloat(float):
    """A number of a JSON text, which as text is what stood there: 1.50, 1e3.

    In another process it is a plain float.
    """

    _text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """Read `text`."""
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


def loads(text: str) -> Any:
    """Read a JSON text; its fractions are `WrittenFloat`s.

    Raises:
        ValueError: It is none.
    """
    return json.loads(text, parse_float=WrittenFloat)


def read(builder: Any, split: str) -> Rows | None:
    """Read a split of a data set that consists of JSON or CSV files.

    Args:
        builder: Of `datasets`.
        split: As `datasets` reads it: `train`, `train[:10%]`, `train+test`.

    Returns:
        Its rows; None where it consists of other files.

    Raises:
        ValueError: A file is malformed, or there is no such split.
    """
    from datasets.arrow_reader import ReadInstruction
    from datasets.packaged_modules.csv.csv import Csv
    from datasets.packaged_modules.json.json import Json

    parse: Callable[[str, Any], Iterator[Any]]
    if isinstance(builder, Json):
        parse = _json
    elif isinstance(builder, Csv):
        parse = _csv
    else:
        return None
    names = [split] if split in builder.config.data_files else list(builder.config.data_files)
    whole = {str(name): _read(builder, name, parse) for name in names}
    parts = ReadInstruction.from_spec(split).to_absolute(
        {name: len(rows) for name, rows in whole.items()}
    )
    return [row for part in parts for row in whole[part.splitname][part.from_ : part.to]]


def _read(builder: Any, name: Any, parse: Callable[[str, Any], Iterator[Any]]) -> Rows:
    from datasets import DownloadManager

    rows: Rows = []
    for path in DownloadManager().download_and_extract(list(builder.config.data_files[name])):
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows += parse(file.read(), builder.config)
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{path} holds more than JSON objects")
    return rows


def _json(text: str, config: Any) -> Iterator[Any]:
    """One object per line, or all in one list, or in the list that `config.field` names."""
    if config.field is not None:
        yield from loads(text)[config.field]
    elif text.lstrip().startswith("["):
        yield from loads(text)
    else:
        yield from (loads(line) for line in text.split("\n") if line.strip())


def _csv(text: str, config: Any) -> Iterator[Any]:
    import pandas

    frame = pandas.read_csv(
        io.StringIO(text),
        sep=config.delimiter or config.sep,
        quotechar=config.quotechar,
        dtype=str,
        keep_default_na=False,
    )
    for row in frame.to_dict("records"):
        yield {key: value if isinstance(value, str) else None for key, value in row.items()}

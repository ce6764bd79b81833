"""Public data sets beside the project: gzipped JSON lines, in `OAPL_DATA` or `../shared/data`."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("OAPL_DATA", Path(__file__).parents[3] / "shared" / "data"))


class Absent(Exception):
    """A set is not on this machine; the message says where it was looked for."""


def rows(name: str) -> list[dict[str, Any]]:
    """All rows of a set.

    Raises:
        Absent: It is not here.
    """
    path = FOLDER / f"{name}.jsonl.gz"
    if not path.exists():
        raise Absent(f"{path.name} is not here; set OAPL_DATA to its folder")
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]

"""Which model a checkpoint was trained from.

A resumed run reads `model.path` and then loads the checkpoint over it, so that another model of the
same shape would be ignored without a word. Invariants: a model that was copied, moved, or saved
again in other files is the same one; one whose files cannot be read here is never refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from oapl.config import RunConfig
from oapl.errors import InputError

FILE = "model.json"
SAMPLED_TENSORS = 256
"""More tell no more: what is trained from the same model differs in nearly all."""
SAMPLE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A model.

    Attributes:
        path: `model.path`, as it was written.
        fingerprint: Of its tensors; empty where no safetensors lie in that place.
    """

    path: str
    fingerprint: str


def origin_of(config: RunConfig) -> Origin:
    """Look at the model that a run starts from; reads a few kilobytes of it."""
    return Origin(path=config.model.path, fingerprint=_fingerprint(Path(config.model.path)))


def write(checkpoint: Path, origin: Origin) -> None:
    """Note the model in a checkpoint.

    Args:
        checkpoint: Its folder.
        origin: As it was when the run began: the files may be gone by now.
    """
    (checkpoint / FILE).write_text(json.dumps(asdict(origin)))


def check(checkpoint: Path, config: RunConfig) -> None:
    """Refuse to go on with another model.

    Args:
        checkpoint: What the run is to go on from; one of an earlier build names no model.
        config: The run.

    Raises:
        InputError: `model.path` is not what the checkpoint was trained from.
        ValueError: The note is damaged.
    """
    if not (checkpoint / FILE).is_file():
        return
    saved = Origin(**json.loads((checkpoint / FILE).read_text()))
    here = origin_of(config)
    if saved.fingerprint and here.fingerprint:
        is_other = saved.fingerprint != here.fingerprint
    else:  # of a hub's model nothing is known but its name, and a folder may hold a copy of it
        is_other = saved.path != here.path and not (saved.fingerprint or here.fingerprint)
    if is_other:
        was = "which has changed since" if saved.path == here.path else f"not {saved.path!r}"
        raise InputError(
            f"model.path = {here.path!r}, {was}: {checkpoint} was trained from that and holds all "
            "weights, so that this model would be ignored; set model.path back, or begin with this "
            "model under another run.name"
        )


def _fingerprint(folder: Path) -> str:
    """Names, shapes and a few bytes of tensors: a matter of milliseconds, whatever the size."""
    try:
        files = [(path, *_header(path)) for path in sorted(folder.glob("*.safetensors"))]
    except (OSError, ValueError, struct.error):
        return ""
    found = {name: (path, start, about) for path, start, header in files for name, about in header}
    every = -(-len(found) // SAMPLED_TENSORS) if found else 1
    total = hashlib.sha256()
    for number, name in enumerate(sorted(found)):
        path, start, about = found[name]
        total.update(f"{name} {about['dtype']} {about['shape']}\n".encode())
        if number % every == 0:
            begin, end = about["data_offsets"]
            with path.open("rb") as file:
                file.seek(start + (begin + end) // 2)
                total.update(file.read(min(SAMPLE_BYTES, end - (begin + end) // 2)))
    return total.hexdigest() if found else ""


def _header(path: Path) -> tuple[int, Iterator[tuple[str, dict]]]:
    """Where the data of a safetensors file begins, and its tensors."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    tensors = ((name, about) for name, about in header.items() if name != "__metadata__")
    return 8 + length, tensors

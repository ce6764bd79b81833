"""Tensors of all ranks by the parameter's name, in files from which any number of ranks can read.

A rank writes what it holds of a parameter, flattened, and where in the parameter that begins; who
reads asks for a stretch, and gets it from whichever files have it. Invariant: what is asked for is
there from end to end, or refused; nothing that is read runs code (safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.shares import Stretch
from oapl.errors import CheckpointError

STARTS, STEPS = "starts", "steps"
"""Of a file's metadata: where in the parameter each tensor begins, and how often it was stepped."""
SEPARATOR = "|"
DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As safetensors calls them."""


def key_of(kind: str, name: str) -> str:
    """How a tensor is called in a file.

    Args:
        kind: What of the parameter it is.
        name: The parameter's.
    """
    return f"{kind}{SEPARATOR}{name}"


def write(
    folder: Path,
    rank: int,
    tensors: Mapping[str, tuple[Tensor, int]],
    steps: Mapping[str, float],
) -> None:
    """Write what one rank holds, one tensor after the other: no more than one is copied at a time.

    Args:
        folder: Made here if need be; every rank writes into it.
        rank: Whose file it is.
        tensors: By `key_of`: a tensor [n], wherever it lies, and the number of its first element in
            the parameter.
        steps: By parameter, the optimizer's count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = {key: start for key, (_, start) in tensors.items()}
    metadata = {STARTS: json.dumps(starts), STEPS: json.dumps(steps)}
    by_size = sorted(tensors, key=lambda key: -tensors[key][0].element_size())  # so all are aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for key in by_size:
        tensor, _ = tensors[key]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        kind, shape = DTYPES[tensor.dtype], [tensor.numel()]
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / f"rank-{rank}.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in by_size:
            tensor, _ = tensors[key]
            file.write(tensor.detach().to("cpu").contiguous().view(torch.uint8).numpy().data)


class Pieces:
    """What all ranks wrote into a folder.

    Args:
        folder: Of `write`.
        whose: The model's setting, for messages.

    Attributes:
        steps: By parameter, the optimizer's count.
    """

    def __init__(self, folder: Path, whose: str) -> None:
        from safetensors import safe_open

        self._folder, self._whose = folder, whose
        self._files: list[Any] = []
        self._places: dict[str, list[tuple[Stretch, int]]] = {}
        self.steps: dict[str, float] = {}
        for number, path in enumerate(sorted(folder.glob("rank-*.safetensors"))):
            file: Any = safe_open(path, "pt")  # type: ignore[no-untyped-call]
            self._files.append(file)
            metadata = file.metadata()
            self.steps |= json.loads(metadata[STEPS])
            for key, start in json.loads(metadata[STARTS]).items():
                (length,) = file.get_slice(key).get_shape()
                self._places.setdefault(key, []).append((Stretch(start, length), number))

    def has(self, key: str) -> bool:
        """Whether any rank wrote that."""
        return key in self._places

    def written(self) -> tuple[str, ...]:
        """All that was written, in order."""
        return tuple(sorted(self._places))

    def kinds(self) -> tuple[str, ...]:
        """What of parameters was written, each kind once, in order."""
        return tuple(sorted({key.partition(SEPARATOR)[0] for key in self._places}))

    def size(self, key: str) -> int:
        """Elements of the whole."""
        return max((one.start + one.length for one, _ in self._places.get(key, ())), default=0)

    def dtype(self, key: str) -> torch.dtype:
        """Of what was written under it.

        Raises:
            CheckpointError: Nothing was.
        """
        if key not in self._places:
            raise self._other(key)
        _, number = self._places[key][0]
        found: torch.dtype = self._files[number].get_slice(key)[:0].dtype
        return found

    def read(self, key: str, wanted: Stretch) -> Tensor:
        """Put a stretch together.

        Args:
            key: Of `key_of`.
            wanted: Of the parameter, flattened.

        Returns:
            [wanted.length], on the CPU, of the type that was written.

        Raises:
            CheckpointError: Part of it is in no file.
        """
        end = wanted.start + wanted.length
        parts = [torch.zeros(0, dtype=self.dtype(key))]
        at = wanted.start
        for one, number in sorted(self._places.get(key, ()), key=lambda place: place[0].start):
            first, last = max(at, one.start), min(end, one.start + one.length)
            if first != at or first >= last:
                continue
            parts.append(self._files[number].get_slice(key)[first - one.start : last - one.start])
            at = last
        if at != end:
            raise self._other(key)
        return torch.cat(parts)

    def demand(self, kind: str, sizes: Mapping[str, int]) -> None:
        """Refuse other parameters than there are.

        Args:
            kind: What of them was written, of each.
            sizes: Their elements, by name.

        Raises:
            CheckpointError: One is missing, surplus, or of another size.
        """
        keys = {key_of(kind, name): numel for name, numel in sizes.items()}
        surplus = [key for key in self._places if key.startswith(kind + SEPARATOR)]
        for key in [*keys, *surplus]:
            if self.size(key) != keys.get(key, 0):
                raise self._other(key)

    def _other(self, key: str) -> CheckpointError:
        return CheckpointError(
            f"checkpoint {self._folder.parent}: the model is not the one that was saved "
            f"({key.partition(SEPARATOR)[2]} has {self.size(key)} elements in it); set "
            f"{self._whose} back, or begin afresh under another run.name"
        )

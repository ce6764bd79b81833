"""Weights through a shared folder: one flat file per publication, for engines that come and go.

The file grows under a name of its own and is renamed once it is whole, so a cut publication is
never seen; a name is used once, so no version can turn into another while it is read. The folder is
`weights/` of the run, which every node must see. It holds the current publication and the one
before it, whoever sent them: a restarted run clears what a killed one left. Reads are no memory
maps, since a map of a file that a file server loses ends the process instead of raising.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import Probe, WeightsVersion
from oapl.weights.base import Manifest, Tensors, from_bytes, verified

if TYPE_CHECKING:
    from oapl.records import TensorSpec

FOLDER = "weights"
KEPT_VERSIONS = 2
WHOLE, PART = ".bin", ".part"


def build_sender(config: RunConfig) -> Sender:
    return Sender(config.folder / FOLDER)


def build_receiver(config: RunConfig) -> Receiver:
    return Receiver()


class Sender:
    """Writes each publication into the folder; see `oapl.interfaces.WeightSender`.

    One sender at a time writes into a folder, as one run at a time owns its run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._sent: list[Path] = []

    def send(self, version: int, tensors: Tensors, probe: Probe) -> WeightsVersion:
        """Write the tensors one after another, rename the file, remove what is too old.

        Raises:
            WeightsError: A tensor is not finite, or the folder cannot be written; nothing was
                published.
        """
        manifest = Manifest(version)
        with self._aside(version) as path, path.open("wb") as file:
            for name, tensor in tensors:
                file.write(manifest.add(name, tensor).data)
        whole = path.with_suffix(WHOLE)
        self._sent = [*self._sent, whole][-KEPT_VERSIONS:]
        return WeightsVersion(
            version=version,
            specs=tuple(manifest.specs),
            num_bytes=manifest.num_bytes,
            digest=manifest.digest(),
            transport="disk",
            location=str(whole),
            probe=probe,
        )

    def close(self) -> None:
        """Remove what was published."""
        for path in self._sent:
            path.unlink(missing_ok=True)
        self._sent = []
        with suppress(OSError):  # another sender's files may lie there
            self._folder.rmdir()

    @contextmanager
    def _aside(self, version: int) -> Iterator[Path]:
        """A path to write to, which becomes the newest publication when the block succeeds."""
        path = self._folder / PART
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = max((_number(old) for old in self._publications()), default=-1) + 1
            path = self._folder / f"{number:08d}-version-{version}-{os.urandom(4).hex()}{PART}"
            yield path
            # No fsync: closing the file hands it to a file server, and a publication need not
            # survive the machine that made it; checkpoints do.
            path.rename(path.with_suffix(WHOLE))
            for old in self._publications()[:-KEPT_VERSIONS]:
                old.unlink(missing_ok=True)
            for left in self._folder.glob(f"*{PART}"):
                left.unlink(missing_ok=True)
        except BaseException as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise WeightsError(
                    f"version {version} could not be written to {self._folder}: {error}"
                ) from error
            raise

    def _publications(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{WHOLE}"))


class Receiver:
    """Reads the folder; picklable. A file server that hangs is bounded by the engine's deadline."""

    def receive(self, weights: WeightsVersion) -> Tensors:
        """The tensors in the order of `weights.specs`, each in memory of its own.

        Raises:
            WeightsError: The version is gone, cut short, or not what was announced.
        """
        yield from verified(weights, self._read(weights))

    def _read(self, weights: WeightsVersion) -> Tensors:
        path = Path(weights.location)
        try:
            with path.open("rb") as file:
                for spec in weights.specs:
                    buffer = np.empty(_num_bytes(spec), dtype=np.uint8)
                    arrived = file.readinto(buffer.data)
                    if arrived != buffer.nbytes:
                        raise WeightsError(
                            f"version {weights.version}: {path} ends within {spec.name} "
                            f"({arrived} of {buffer.nbytes} bytes)"
                        )
                    yield spec.name, from_bytes(buffer, spec)
                if file.read(1):
                    raise WeightsError(
                        f"version {weights.version}: {path} holds more than was announced"
                    )
        except FileNotFoundError:
            raise WeightsError(
                f"version {weights.version} is not at {path}: it is older than the "
                f"{KEPT_VERSIONS} versions kept, or this node does not see that folder "
                f"(sync.transport = 'disk' needs run.dir on storage that all nodes share)"
            ) from None
        except OSError as error:
            raise WeightsError(
                f"version {weights.version} could not be read from {path}: {error}"
            ) from error


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _num_bytes(spec: TensorSpec) -> int:
    import torch

    dtype: torch.dtype = getattr(torch, spec.dtype)
    return math.prod(spec.shape) * dtype.itemsize

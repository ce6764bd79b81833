"""Weights through a shared folder: one flat file per publication, for engines that come and go.

The file grows chunk by chunk, and a ticket names file, offset and bytes of a chunk that is written;
a name is used once, so no version can turn into another while it is read. The folder is `weights/`
of the run, which every node must see. It holds the current publication and the one before it, and
the last one for engines set aside, whoever sent them: a restarted run clears what a killed one
left. Reads are no memory maps, since a map of a file that a file server loses ends the process
instead of raising.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import TensorSpec, WeightsVersion
from oapl.weights.base import Tensors, received

FOLDER = "weights"
KEPT_VERSIONS = 2
SUFFIX = ".bin"
ASIDE = "-aside-"
"""In the names of those for engines set aside."""


def build_sender(config: RunConfig) -> Sender:
    """The learner's end, in the run's folder."""
    return Sender(config.folder / FOLDER)


def build_receiver(config: RunConfig) -> Receiver:
    """An engine's end."""
    return Receiver(timeout_s=config.sync.timeout_s)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where a chunk lies."""

    path: str
    offset: int
    num_bytes: int


class Sender:
    """Appends each chunk to the publication's file; see `oapl.interfaces.WeightSender`.

    One sender at a time writes into a folder, as one run at a time owns its run folder.
    """

    transport = "disk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._sent: list[Path] = []
        self._offset = 0

    def begin(self, version: int, specs: Sequence[TensorSpec], is_aside: bool = False) -> None:
        """Begin a new file; what is too old goes. See `oapl.interfaces.WeightSender.begin`.

        Raises:
            WeightsError: The folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            older = sorted(self._folder.glob(f"*{SUFFIX}"))
            alike = [path for path in older if (ASIDE in path.name) == is_aside]
            kept = 0 if is_aside else KEPT_VERSIONS - 1
            for path in alike[: max(0, len(alike) - kept)]:
                path.unlink(missing_ok=True)
            number = int(older[-1].name.partition("-")[0]) + 1 if older else 0
            kind = ASIDE if is_aside else "-version-"
            name = f"{number:08d}{kind}{version}-{os.urandom(4).hex()}{SUFFIX}"
            (self._folder / name).touch()
        except OSError as error:
            raise self._unwritable(version, error) from error
        self._sent = [*filter(Path.exists, self._sent), self._folder / name]
        self._version, self._offset = version, 0

    def put(self, number: int, content: np.ndarray) -> Ticket:
        """Append the chunk to the file. See `oapl.interfaces.WeightSender.put`.

        Raises:
            WeightsError: The file cannot be written.
        """
        path = self._sent[-1]
        try:
            # No fsync: closing the file hands it to a file server, and a publication need not
            # survive the machine that made it; checkpoints do.
            with path.open("ab") as file:
                file.write(content.data)
        except OSError as error:
            raise self._unwritable(self._version, error) from error
        ticket = Ticket(str(path), self._offset, content.nbytes)
        self._offset += content.nbytes
        return ticket

    def close(self) -> None:
        """Remove what was published."""
        for path in self._sent:
            path.unlink(missing_ok=True)
        self._sent = []
        with suppress(OSError):  # another sender's files may lie there
            self._folder.rmdir()

    def _unwritable(self, version: int, error: OSError) -> WeightsError:
        return WeightsError(f"version {version} could not be written to {self._folder}: {error}")


class Receiver:
    """Reads the folder; picklable. A file server that hangs is bounded by the engine's deadline."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """Fetch the tensors. See `oapl.interfaces.WeightReceiver.receive`.

        Each chunk lies in memory of its own.

        Raises:
            WeightsError: The version is gone, cut short, or not what was announced.
        """
        return received(weights, lambda offer: _read(offer.ticket, offer.version), self._timeout_s)


def _read(ticket: Ticket, version: int) -> np.ndarray:
    buffer = np.empty(ticket.num_bytes, dtype=np.uint8)
    try:
        with open(ticket.path, "rb") as file:
            file.seek(ticket.offset)
            arrived = file.readinto(buffer.data)
    except FileNotFoundError:
        raise WeightsError(
            f"version {version} is not at {ticket.path}: it is older than the {KEPT_VERSIONS} "
            f"versions kept, or this node does not see that folder (sync.transport = 'disk' needs "
            f"run.dir on storage that all nodes share)"
        ) from None
    except OSError as error:
        raise WeightsError(
            f"version {version} could not be read from {ticket.path}: {error}"
        ) from error
    if arrived != buffer.nbytes:
        raise WeightsError(
            f"version {version}: {ticket.path} ends within a chunk ({arrived} of {buffer.nbytes} "
            f"bytes at {ticket.offset})"
        )
    return buffer

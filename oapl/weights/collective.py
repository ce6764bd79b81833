"""Weights by broadcast from the learner to every engine that asks, over gloo between the hosts.

A sender keeps copies of the chunks of two publications, and of the last one for engines set aside,
and a small key-value server. Engines that
ask at about the same time form a round: a process group of its own, in which the sender broadcasts
chunk after chunk, waiting for each until the learner has sent it; whoever asks later is in a later
round, so that joining late needs nothing more. When a member dies its round breaks for all; the
others ask again, from the chunk they lack, until their deadline. Nothing of this touches the ranks'
own process group, and a sender waits for nobody.

Tensors end in the memory of the engine's host, as with every transport. NCCL and HCCL straight
into an engine's workers are not here.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import TensorSpec, WeightsVersion
from oapl.weights.base import Tensors, layout, received

if TYPE_CHECKING:
    from torch.distributed import Store

KEPT_VERSIONS = 2
LOOPBACK = "127.0.0.1"
log = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long a round is open for others after its first member has asked."""
PROMPT = timedelta(seconds=5)
"""More than it takes between drawing a ticket and saying what for."""
IDLE = timedelta(days=365)
STALL_S = 30.0
"""A chunk that takes longer ends its round: when a member dies the others notice only so."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Whom to ask for which publication, and the bytes of this chunk of it."""

    host: str
    port: int
    publication: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """What an engine asks for: the chunks of a publication from `first` on."""

    publication: int
    first: int


CLOSE = ChunkRequest(publication=-2, first=0)


@dataclass(frozen=True, slots=True)
class Seat:
    """The answer: a place in a round."""

    round: int
    rank: int
    size: int
    first: int


def build_sender(config: RunConfig) -> Sender:
    """The learner's end; its server starts with the first publication."""
    return Sender(stall_s=min(config.sync.timeout_s / 4, STALL_S))


def build_receiver(config: RunConfig) -> Receiver:
    """An engine's end."""
    stall_s = min(config.sync.timeout_s / 4, STALL_S)
    return Receiver(timeout_s=config.sync.timeout_s, stall_s=stall_s)


class Publication:
    """The chunks that have been sent so far, of as many as there will be."""

    def __init__(self, num_chunks: int) -> None:
        self.num_chunks = num_chunks
        self._chunks: list[np.ndarray] = []
        self._grown = threading.Condition()

    def add(self, chunk: np.ndarray) -> None:
        """The next chunk, uint8 [bytes], has been sent; whoever waits for it wakes."""
        with self._grown:
            self._chunks.append(chunk)
            self._grown.notify_all()

    def chunk(self, number: int, timeout_s: float) -> np.ndarray:
        """Wait for a chunk, uint8 [bytes].

        Args:
            number: 0, 1, ... in order.
            timeout_s: Longest wait.

        Raises:
            OSError: The learner has not sent it in time.
        """
        with self._grown:
            if not self._grown.wait_for(lambda: number < len(self._chunks), timeout_s):
                raise OSError(f"the learner did not send chunk {number + 1} in {timeout_s:g} s")
            return self._chunks[number]


class Sender:
    """Keeps each publication and serves it; see `oapl.interfaces.WeightSender`.

    Args:
        stall_s: Longest for a chunk; a round that stalls is given up.
    """

    transport = "collective"

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._numbers = itertools.count()
        self._kept: dict[int, Publication] = {}
        self._served: list[int] = []
        self._aside = self._newest = -1
        self._host, self._port = LOOPBACK, 0
        self._server: threading.Thread | None = None

    def begin(self, version: int, specs: Sequence[TensorSpec], is_aside: bool = False) -> None:
        """Make room for a publication. See `oapl.interfaces.WeightSender.begin`.

        Engines fetch the chunks when they are told.
        """
        if self._server is None:
            self._serve()
        self._newest = next(self._numbers)
        if is_aside:
            self._aside = self._newest
        else:
            self._served = [*self._served, self._newest][-KEPT_VERSIONS:]
        there = {**self._kept, self._newest: Publication(len(layout(specs)))}
        wanted = (*self._served, self._aside)
        self._kept = {number: there[number] for number in wanted if number in there}

    def put(self, number: int, content: np.ndarray) -> Ticket:
        """Keep a copy of the chunk. See `oapl.interfaces.WeightSender.put`."""
        self._kept[self._newest].add(content.copy())
        return Ticket(self._host, self._port, self._newest, content.nbytes)

    def close(self) -> None:
        """Forget what was published; who asks now is told so, and rounds in progress end."""
        self._kept = {}
        if self._server is not None:
            _ask(_connect(self._host, self._port, PROMPT), CLOSE)
            self._server.join(self._stall_s)
            self._server = None

    def _serve(self) -> None:
        from torch.distributed import TCPStore

        self._host = _address()
        listener = socket.create_server((self._host, 0))
        self._port = listener.getsockname()[1]
        store = TCPStore(
            self._host,
            self._port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        self._server = threading.Thread(
            target=self._run, args=(store,), name="weights", daemon=True
        )
        self._server.start()

    def _run(self, store: Store) -> None:
        """Form rounds of those who ask, each served by a thread of its own."""
        seen, rounds = 0, itertools.count()
        while True:
            asked = [(seen + 1, _request(store, seen + 1, IDLE))]
            time.sleep(GATHER_S)
            for ticket in range(seen + 2, store.add("tickets", 0) + 1):
                asked.append((ticket, _request(store, ticket, PROMPT)))
            seen += len(asked)
            if any(request == CLOSE for _, request in asked):
                return
            for number in {request.publication for _, request in asked}:
                members = [(t, r) for t, r in asked if r.publication == number]
                first = min(request.first for _, request in members)
                turn, size = next(rounds), len(members) + 1
                publication = self._kept.get(number)
                for rank, (ticket, _) in enumerate(members, start=1):
                    seat = Seat(turn, rank, size, first) if publication is not None else None
                    store.set(f"seat/{ticket}", _packed(seat))
                if publication is not None:
                    arguments = (turn, size, publication, first)
                    threading.Thread(target=self._broadcast, args=arguments, daemon=True).start()

    def _broadcast(self, turn: int, size: int, publication: Publication, first: int) -> None:
        """One round. When a member dies it breaks here too; the others ask for another."""
        import torch

        deadline = timedelta(seconds=self._stall_s)
        try:
            group = _group(_connect(self._host, self._port, deadline), turn, 0, size, deadline)
            for number in range(first, publication.num_chunks):
                chunk = publication.chunk(number, self._stall_s)
                _pass_on(group, torch.from_numpy(chunk))
        except (RuntimeError, OSError) as error:
            log.warning("round %d of %d engines broke: %s", turn, size - 1, error)


class Receiver:
    """Asks the sender for a place in a round; picklable.

    Args:
        timeout_s: Longest for a publication.
        stall_s: Longest for a chunk, after which another round is asked for.
    """

    def __init__(self, timeout_s: float, stall_s: float = STALL_S) -> None:
        self._timeout_s = timeout_s
        self._stall_s = stall_s

    def receive(self, weights: WeightsVersion) -> Tensors:
        """Fetch the tensors. See `oapl.interfaces.WeightReceiver.receive`.

        Raises:
            WeightsError: The sender is gone or no longer has the version, rounds broke until the
                deadline, or the contents are not what was announced.
        """
        arriving = self._chunks(weights)
        return received(weights, lambda sent: next(arriving), self._timeout_s)

    def _chunks(self, weights: WeightsVersion) -> Iterator[np.ndarray]:
        """The chunks one after another, from as many rounds as it takes."""
        place: Ticket = weights.chunks[0].get(0).ticket
        deadline, first, problem = time.monotonic() + self._timeout_s, 0, "nobody answered"
        while (left := deadline - time.monotonic()) > 0:
            try:
                for chunk in _one_round(weights, place, first, left, self._stall_s):
                    first += 1
                    yield chunk
                return
            except WeightsError:
                raise
            except OSError as error:
                problem = f"the sender is gone: {error}"
                break
            except RuntimeError as error:  # torch's, for a peer that is gone or silent
                problem = str(error).strip().splitlines()[0][:200]
        raise WeightsError(
            f"version {weights.version}: chunk {first + 1} of {len(weights.chunks)} did not "
            f"come from {place.host}:{place.port} within {self._timeout_s:g} s ({problem})"
        )


def _one_round(
    weights: WeightsVersion, place: Ticket, first: int, left_s: float, stall_s: float
) -> Iterator[np.ndarray]:
    """Chunks from `first` on, as one round brings them. Raises: RuntimeError when it breaks."""
    import torch

    left = timedelta(seconds=left_s)
    store = _connect(place.host, place.port, left)
    turn = _ask(store, ChunkRequest(place.publication, first))
    store.wait([f"seat/{turn}"], left)
    answer = json.loads(store.get(f"seat/{turn}"))
    if answer is None:
        raise WeightsError(
            f"version {weights.version} is older than the {KEPT_VERSIONS} versions kept by the "
            f"sender at {place.host}:{place.port}"
        )
    seat, deadline = Seat(**answer), timedelta(seconds=min(left_s, stall_s))
    group = _group(store, seat.round, seat.rank, seat.size, deadline)
    for number in range(seat.first, len(weights.chunks)):
        # The broadcast's own deadline begins when there is something to send. What was sent counts,
        # not what was announced: torch ends the process when two sizes differ.
        ticket: Ticket = weights.chunks[number].get(left_s).ticket
        buffer = np.empty(ticket.num_bytes, dtype=np.uint8)
        _pass_on(group, torch.from_numpy(buffer))
        if number >= first:
            yield buffer


def _ask(store: Store, request: ChunkRequest) -> int:
    ticket: int = store.add("tickets", 1)
    store.set(f"ask/{ticket}", _packed(request))
    return ticket


def _request(store: Store, ticket: int, patience: timedelta) -> ChunkRequest:
    """What the holder of `ticket` asks for; nothing that is kept when it died while asking."""
    try:
        store.wait([f"ask/{ticket}"], patience)
        return ChunkRequest(**json.loads(store.get(f"ask/{ticket}")))
    except (RuntimeError, ValueError, TypeError) as error:
        log.warning("nothing to serve for ticket %d: %s", ticket, str(error).splitlines()[0])
        return ChunkRequest(publication=-1, first=0)


def _packed(record: ChunkRequest | Seat | None) -> bytes:
    """JSON: whoever reaches the port may write there, and a pickle would run."""
    return json.dumps(None if record is None else asdict(record)).encode()


def _connect(host: str, port: int, timeout: timedelta) -> Store:
    """Raises: OSError when nobody listens there."""
    from torch.distributed import TCPStore

    socket.create_connection((host, port), timeout.total_seconds()).close()  # TCPStore would insist
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)


def _group(store: Store, turn: int, rank: int, size: int, timeout: timedelta) -> Any:
    """A process group of this round alone; gone with its last reference."""
    from torch.distributed import PrefixStore, ProcessGroupGloo

    options = ProcessGroupGloo._Options()
    options._timeout = timeout
    is_local = store.host == LOOPBACK  # type: ignore[attr-defined]
    options._devices = [
        ProcessGroupGloo.create_device(hostname=LOOPBACK)
        if is_local
        else ProcessGroupGloo.create_default_device()
    ]
    return ProcessGroupGloo(PrefixStore(f"round/{turn}", store), rank, size, options)


def _pass_on(group: Any, tensor: Any) -> None:
    from torch.distributed import BroadcastOptions

    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([tensor], options).wait()


def _address() -> str:
    """Where engines reach this process: the ranks' master address, or this Ray node's."""
    if master := os.environ.get("MASTER_ADDR"):
        return master
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.util.get_node_ip_address())
    return LOOPBACK

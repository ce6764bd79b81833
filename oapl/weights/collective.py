"""Weights by broadcast from the learner to every process that asks for them.

A sender keeps copies of the chunks of two publications, and of the last one for engines set aside,
and a small key-value server. Those who ask at about the same time form a round: a process group of
its own, in which the sender broadcasts chunk after chunk, waiting for each until the learner has
sent it; whoever asks later is in a later round, so that joining late needs nothing more. When a
member dies its round breaks for all; the others ask again, from the chunk they lack, until their
deadline. Nothing of this touches the ranks' own process group, and a sender waits for nobody.

An engine in this process asks for chunks in the memory of its host, over gloo. One with processes
of its own hands each of them what it needs to ask itself (`Receiver.offers`, `Intake`): there
chunks end on the device that holds the model, over its back end. A round has one back end.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from oapl.config import RunConfig
from oapl.devices import base as devices
from oapl.records import TensorSpec, WeightsVersion
from oapl.weights import _groups
from oapl.weights._rounds import (
    CLOSE,
    STALL_S,
    ChunkRequest,
    Member,
    Seat,
    Ticket,
    ask,
    connect,
    group_of,
    packed,
)
from oapl.weights.base import Chunk, Offer, Tensors, layout, offers, received

if TYPE_CHECKING:
    from torch.distributed import Store

KEPT_VERSIONS = 2
log = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long a round is open for others after its first member has asked."""
PROMPT = timedelta(seconds=5)
"""More than it takes between drawing a ticket and saying what for."""
IDLE = timedelta(days=365)


def build_sender(config: RunConfig) -> Sender:
    """The learner's end; its server starts with the first publication."""
    return Sender(stall_s=min(config.sync.timeout_s / 4, STALL_S))


def build_receiver(config: RunConfig) -> Receiver:
    """An engine's end."""
    return Receiver(
        timeout_s=config.sync.timeout_s,
        stall_s=min(config.sync.timeout_s / 4, STALL_S),
        backend=backend_of(config),
    )


def backend_of(config: RunConfig) -> str:
    """Name the back end to the processes that hold the model: the ranks' own where there is one.

    Two ends on one card NCCL and HCCL refuse, so where cards are shared it is gloo.
    """
    cluster, device = config.cluster, devices.load(config)
    is_shared = 0 < cluster.devices_per_engine < 1 or 0 < cluster.devices_per_rank < 1
    return _groups.HOSTS if is_shared else device.COLLECTIVE_BACKEND


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
        self._host, self._port = _groups.LOOPBACK, 0
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
            ask(connect(self._host, self._port, PROMPT), CLOSE)
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
            for kind in {(request.publication, request.backend) for _, request in asked}:
                members = [(t, r) for t, r in asked if (r.publication, r.backend) == kind]
                self._seat(store, next(rounds), *kind, members)

    def _seat(
        self,
        store: Store,
        turn: int,
        number: int,
        backend: str,
        members: list[tuple[int, ChunkRequest]],
    ) -> None:
        """Answer those who ask for one publication by one back end, and begin their round."""
        publication = self._kept.get(number)
        first, size = min(request.first for _, request in members), len(members) + 1
        for rank, (ticket, _) in enumerate(members, start=1):
            seat = Seat(turn, rank, size, first) if publication is not None else None
            store.set(f"seat/{ticket}", packed(seat))
        if publication is not None:
            arguments = (Seat(turn, 0, size, first), backend, publication)
            threading.Thread(target=self._broadcast, args=arguments, daemon=True).start()

    def _broadcast(self, seat: Seat, backend: str, publication: Publication) -> None:
        """One round. When a member dies it breaks here too; the others ask for another."""
        import torch

        deadline = timedelta(seconds=self._stall_s)
        try:
            store = connect(self._host, self._port, deadline)
            group = group_of(store, backend, seat, deadline)
            try:
                for number in range(seat.first, publication.num_chunks):
                    chunk = publication.chunk(number, self._stall_s)
                    group.pass_on(torch.from_numpy(chunk).to(group.device))
            finally:
                group.leave()
        except (RuntimeError, OSError) as error:
            log.warning("round %d of %d members broke: %s", seat.round, seat.size - 1, error)


class Receiver:
    """Asks the sender for places in rounds; picklable. See `oapl.interfaces.DirectReceiver`.

    Args:
        timeout_s: Longest for a publication.
        stall_s: Longest for a chunk, after which another round is asked for.
        backend: To the processes that hold the model.
    """

    def __init__(
        self, timeout_s: float, stall_s: float = STALL_S, backend: str = _groups.HOSTS
    ) -> None:
        self._limits = {"timeout_s": timeout_s, "stall_s": stall_s}
        self._timeout_s = timeout_s
        self._backend = backend

    def receive(self, weights: WeightsVersion) -> Tensors:
        """Fetch the tensors. See `oapl.interfaces.WeightReceiver.receive`.

        Raises:
            WeightsError: The sender is gone or no longer has the version, rounds broke until the
                deadline, or the contents are not what was announced.
        """
        member = Member(_groups.HOSTS, **self._limits)
        try:
            yield from received(weights, lambda offer: member.fetch(offer).numpy(), self._timeout_s)
        finally:
            member.leave()

    def offers(self, weights: WeightsVersion) -> Iterator[dict[str, Any]]:
        """Tell what an `Intake` needs. See `oapl.interfaces.DirectReceiver.offers`.

        Raises:
            WeightsError: A chunk is missing, surplus or late.
        """
        member = {"backend": self._backend, **self._limits}
        for offer in offers(weights, self._timeout_s):
            yield {"member": member, "offer": asdict(offer)}


class Intake:
    """The end of publications in a process that holds a model, and knows no promises."""

    def __init__(self) -> None:
        self._member: Member | None = None

    def fetch(self, offered: Mapping[str, Any]) -> Tensors:
        """Fetch a chunk, whole, before this returns.

        Args:
            offered: What `Receiver.offers` gave, possibly by way of JSON; chunks in order. The
                first of a publication begins anew.

        Returns:
            Name and tensor [...] on the device of the receiver's back end.

        Raises:
            WeightsError: As of `Receiver.receive`.
        """
        offer = _offer(offered["offer"])
        if self._member is None or offer.number == 0:
            self.leave()
            self._member = Member(**offered["member"])
        try:
            content = self._member.fetch(offer)
            offer.check(content.cpu().numpy())
        except BaseException:
            self.leave()
            raise
        return offer.chunk.tensors(content)

    def leave(self) -> None:
        """Give up what was begun."""
        if self._member is not None:
            self._member.leave()
            self._member = None


def _offer(fields: Mapping[str, Any]) -> Offer:
    """An offer from plain types."""
    chunk = fields["chunk"]
    specs = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in chunk["specs"])
    whole = Chunk(specs, tuple(chunk["starts"]), chunk["num_bytes"])
    return Offer(**{**fields, "chunk": whole, "ticket": Ticket(**fields["ticket"])})


def _request(store: Store, ticket: int, patience: timedelta) -> ChunkRequest:
    """What the holder of `ticket` asks for; nothing that is kept when it died while asking."""
    try:
        store.wait([f"ask/{ticket}"], patience)
        request = ChunkRequest(**json.loads(store.get(f"ask/{ticket}")))
        kinds = tuple(map(type, (request.publication, request.first, request.backend)))
        if kinds != (int, int, str) or not _groups.is_known(request.backend):
            raise ValueError(f"{request} is none that this process can serve")
        return request
    except (RuntimeError, ValueError, TypeError) as error:
        log.warning("nothing to serve for ticket %d: %s", ticket, str(error).splitlines()[0])
        return ChunkRequest(publication=-1, first=0)


def _address() -> str:
    """Where engines reach this process: the ranks' master address, or this Ray node's."""
    if master := os.environ.get("MASTER_ADDR"):
        return master
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.util.get_node_ip_address())
    return _groups.LOOPBACK

"""How engines ask for a place in a round of the broadcast, and what they fetch in it.

Whoever wants chunks draws a ticket in the sender's key-value store and says what for; the answer is
a seat in a round, or that the sender no longer has it. A round passes on the chunks from the first
that one of its members lacks.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from oapl.errors import WeightsError
from oapl.weights._groups import HOSTS, Group
from oapl.weights.base import Offer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

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
    """What a member asks for: the chunks of a publication from `first` on, by which back end."""

    publication: int
    first: int
    backend: str = HOSTS


CLOSE = ChunkRequest(publication=-2, first=0)


@dataclass(frozen=True, slots=True)
class Seat:
    """The answer: a place in a round."""

    round: int
    rank: int
    size: int
    first: int


class Member:
    """One process's way through the rounds of one publication.

    Args:
        backend: Of the groups that it joins; says in which memory chunks end.
        timeout_s: Longest for the publication, from the first chunk that is asked for.
        stall_s: Longest for a chunk, after which another round is asked for.
    """

    def __init__(self, backend: str, timeout_s: float, stall_s: float) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._deadline: float | None = None
        self._sizes: list[int] = []
        self._round: _Round | None = None

    def fetch(self, offer: Offer) -> Tensor:
        """Fetch a chunk that has left the learner, uint8 [bytes], from as many rounds as it takes.

        Args:
            offer: Of each chunk in turn, from 0.

        Raises:
            WeightsError: The sender is gone or no longer has the version, or rounds broke until
                the deadline.
        """
        place: Ticket = offer.ticket
        self._deadline = self._deadline or time.monotonic() + self._timeout_s
        self._sizes.append(place.num_bytes)
        problem = "nobody answered"
        while (left := self._deadline - time.monotonic()) > 0:
            try:
                if self._round is None:
                    self._round = self._join(offer, left)
                chunk = self._round.chunk(self._sizes)
            except WeightsError:
                raise
            except OSError as error:
                problem = f"the sender is gone: {error}"
                break
            except RuntimeError as error:  # torch's, for a peer that is gone or silent
                problem = str(error).strip().splitlines()[0][:200]
                self.leave()
            else:
                if offer.number + 1 == offer.num_chunks:
                    self.leave()
                return chunk
        self.leave()
        raise WeightsError(
            f"{offer.what} did not come from {place.host}:{place.port} within "
            f"{self._timeout_s:g} s ({problem})"
        )

    def leave(self) -> None:
        """Give up the place in the round; the others of it hear so at once."""
        if self._round is not None:
            self._round.group.leave()
            self._round = None

    def _join(self, offer: Offer, left_s: float) -> _Round:
        """A seat, from this chunk or an earlier one on. Raises: RuntimeError when it breaks."""
        place, left = offer.ticket, timedelta(seconds=left_s)
        store = connect(place.host, place.port, left)
        turn = ask(store, ChunkRequest(place.publication, offer.number, self._backend))
        store.wait([f"seat/{turn}"], left)
        answer = json.loads(store.get(f"seat/{turn}"))
        if answer is None:
            raise WeightsError(
                f"version {offer.version} is older than the versions kept by the sender at "
                f"{place.host}:{place.port}"
            )
        seat = Seat(**answer)
        deadline = timedelta(seconds=min(left_s, self._stall_s))
        return _Round(group_of(store, self._backend, seat, deadline), seat.first)


@dataclass(slots=True)
class _Round:
    """A group, and the chunk that it passes on next."""

    group: Group
    next: int

    def chunk(self, sizes: list[int]) -> Tensor:
        """Take the chunks up to the last of `sizes` (bytes) and give that one, uint8 [bytes].

        What was sent counts, not what was announced: torch ends the process when two sizes differ.
        """
        import torch

        while True:
            buffer = torch.empty(sizes[self.next], dtype=torch.uint8, device=self.group.device)
            self.group.pass_on(buffer)
            self.next += 1
            if self.next == len(sizes):
                return buffer


def group_of(store: Store, backend: str, seat: Seat, timeout: timedelta) -> Group:
    """Join the group of a round.

    Args:
        store: The sender's.
        backend: What its members have asked for.
        seat: The place.
        timeout: Longest for a chunk.

    Raises:
        RuntimeError: Another member did not come.
    """
    from torch.distributed import PrefixStore

    host: str = store.host  # type: ignore[attr-defined]
    place = PrefixStore(f"round/{seat.round}", store)
    return Group(backend, place, host, rank=seat.rank, size=seat.size, timeout=timeout)


def ask(store: Store, request: ChunkRequest) -> int:
    """Say what is wanted. Returns: The ticket, under which the answer comes."""
    ticket: int = store.add("tickets", 1)
    store.set(f"ask/{ticket}", packed(request))
    return ticket


def packed(record: ChunkRequest | Seat | None) -> bytes:
    """JSON: whoever reaches the port may write there, and a pickle would run."""
    return json.dumps(None if record is None else asdict(record)).encode()


def connect(host: str, port: int, timeout: timedelta) -> Store:
    """Reach the sender's store. Raises: OSError when nobody listens there."""
    from torch.distributed import TCPStore

    socket.create_connection((host, port), timeout.total_seconds()).close()  # TCPStore would insist
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)

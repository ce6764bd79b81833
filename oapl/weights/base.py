"""What every transport shares: how tensors lie in chunks, the finiteness check, the digests.

A publication leaves the learner chunk by chunk, and engines load the first ones while the others
are still being cast: a transport moves chunks, each flat bytes. Which tensors lie in which chunk
follows from `WeightsVersion.specs` alone, on both sides. Invariants: a chunk with a non-finite
number never leaves a sender; a receiver hands on exactly the tensors of the specs, in that order,
each chunk only after its digest has been compared, or raises. A consumer that was handed tensors
before `WeightsError` came must throw them away.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import xxhash

from oapl.config import RunConfig
from oapl.config.kinds import Kind
from oapl.errors import OaplError, WeightsError
from oapl.interfaces import WeightReceiver, WeightSender
from oapl.records import ITEM_BYTES, Probe, Sent, TensorSpec, WeightsVersion
from oapl.remote.promises import Resolved

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Iterator[tuple[str, "Tensor"]]
Bytes = TypeVar("Bytes", np.ndarray, "Tensor")

INFINITIES = {"float32": 0x7F800000, "bfloat16": 0x7F80, "float16": 0x7C00}
"""+infinity as an integer."""
ALIGNMENT = 64
"""Of a tensor within its chunk: torch refuses to view a float at an odd address."""
SMALLEST_CHUNK, LARGEST_CHUNK = 4 * 2**20, 128 * 2**20
NUM_CHUNKS = 8
"""Aimed at: the more, the sooner engines begin; each costs about a millisecond."""


class TransportFile(Protocol):
    """A file of `oapl/weights/`, or a module of the user's own."""

    def build_sender(self, config: RunConfig) -> WeightSender:
        """The learner's end, in the process of rank 0."""

    def build_receiver(self, config: RunConfig) -> WeightReceiver:
        """An engine's end; may be pickled."""


TRANSPORTS: Kind[TransportFile] = Kind("oapl.weights", TransportFile)


def spec_of(name: str, tensor: Tensor) -> TensorSpec:
    """Describe a tensor that is to be published.

    Args:
        name: What engines know it by.
        tensor: [...], the spec's shape, of any dtype.
    """
    return TensorSpec(
        name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch.")
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Which tensors lie in a chunk.

    Attributes:
        specs: In order.
        starts: Byte at which each begins, a multiple of `ALIGNMENT`.
        num_bytes: Of the whole chunk, the gaps between tensors included.
    """

    specs: tuple[TensorSpec, ...]
    starts: tuple[int, ...]
    num_bytes: int

    def views(self, content: Bytes) -> Iterator[tuple[TensorSpec, Bytes]]:
        """Each tensor's part, uint8 [spec.num_bytes], of the chunk's memory, uint8 [num_bytes]."""
        for spec, start in zip(self.specs, self.starts, strict=True):
            yield spec, content[start : start + spec.num_bytes]

    def tensors(self, content: Bytes) -> Tensors:
        """Name and tensor [...] over the chunk's memory, uint8 [num_bytes], of whatever device; no
        copies.
        """
        for spec, part in self.views(content):
            yield spec.name, from_bytes(part, spec)


def in_order(specs: Sequence[TensorSpec]) -> list[int]:
    """Order tensors for sending: those that fill a chunk alone come last, so that engines have
    something to load soon.

    Returns:
        Indices into `specs`.
    """
    limit = _limit(specs)
    return sorted(range(len(specs)), key=lambda index: specs[index].num_bytes > limit)


def layout(specs: Sequence[TensorSpec]) -> tuple[Chunk, ...]:
    """Lay tensors in chunks, in order, as many as fit; a larger one makes a chunk of its own.

    Raises:
        WeightsError: One is of a type that weights are not published in.
    """
    for spec in specs:
        if spec.dtype not in ITEM_BYTES:
            raise WeightsError(f"{spec.name} has dtype {spec.dtype}, not one of {list(ITEM_BYTES)}")
    limit = _limit(specs)
    chunks: list[Chunk] = []
    held: list[TensorSpec] = []
    starts: list[int] = []
    end = 0
    for spec in specs:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        if held and start + spec.num_bytes > limit:
            chunks.append(Chunk(tuple(held), tuple(starts), end))
            held, starts, start = [], [], 0
        held.append(spec)
        starts.append(start)
        end = start + spec.num_bytes
    if held:
        chunks.append(Chunk(tuple(held), tuple(starts), end))
    return tuple(chunks)


def _limit(specs: Sequence[TensorSpec]) -> int:
    whole = sum(spec.num_bytes for spec in specs)
    return min(max(whole // NUM_CHUNKS, SMALLEST_CHUNK), LARGEST_CHUNK)


def check_finite(version: int, chunk: Chunk, content: np.ndarray) -> None:
    """Refuse NaN and infinities: the numbers whose exponent has all bits set.

    Read as integers these are the largest of either sign, so two maxima find them; a mask
    of every number, or extremes of numbers of 16 bits, take two to ten times as long.

    Args:
        version: For the error.
        chunk: What lies where in `content`.
        content: uint8 [chunk.num_bytes].

    Raises:
        WeightsError: Names the tensor.
    """
    for spec, part in chunk.views(content):
        size, infinity = ITEM_BYTES[spec.dtype], INFINITIES[spec.dtype]
        sign = 1 << (8 * size - 1)
        if part.size and (
            part.view(f"i{size}").max() >= infinity
            or part.view(f"u{size}").max() >= sign + infinity
        ):
            raise WeightsError(
                f"version {version}: {spec.name} holds non-finite numbers; they would leave NaN "
                f"in the log-probs of every engine, so they are not published"
            )


def digest(version: int, number: int, chunk: Chunk, content: np.ndarray) -> str:
    """Digest all that a chunk is. Against accidents, not forgers: SHA-256 took longer than loading.

    Args:
        version: Of the publication.
        number: Of the chunk in it.
        chunk: Its tensors' names, types and shapes.
        content: uint8 [chunk.num_bytes].

    Returns:
        XXH3 of 128 bits, in hexadecimal.
    """
    names = "".join(f"|{spec.name}|{spec.dtype}|{spec.shape}" for spec in chunk.specs)
    made = xxhash.xxh3_128(f"{version}|{number}{names}|".encode())
    made.update(content.data)
    return made.hexdigest()


def to_bytes(tensor: Tensor) -> np.ndarray:
    """View a CPU tensor's memory as uint8 [bytes]; no copy when it is contiguous. Any dtype."""
    import torch

    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()


def from_bytes(buffer: np.ndarray | Tensor, spec: TensorSpec) -> Tensor:
    """View bytes as a tensor; no copy.

    A buffer of a shared store is read-only: whoever takes the tensor copies, never writes.

    Args:
        buffer: uint8 [spec.num_bytes], beginning at a multiple of the item size.
        spec: Shape and dtype.

    Returns:
        [...], the spec's shape.
    """
    import torch

    _allow_read_only()
    dtype: torch.dtype = getattr(torch, spec.dtype)
    flat = torch.from_numpy(buffer) if isinstance(buffer, np.ndarray) else buffer
    return flat.view(dtype).reshape(spec.shape)


@functools.cache
def _allow_read_only() -> None:
    """Torch warns once of a buffer that cannot be written. Once for all: a filter for each tensor
    would cost as much as casting it."""
    warnings.filterwarnings("ignore", message=".*not writable.*")


def check_specs(weights: WeightsVersion, expected: dict[str, tuple[int, ...]]) -> None:
    """Compare a publication's list with the model that shall take it in. Any float dtype will do.

    Args:
        weights: The publication.
        expected: Parameter name to shape of the engine's own model, tied ones once.

    Raises:
        WeightsError: Names the first differences.
    """
    sent = {spec.name: spec.shape for spec in weights.specs}
    problems = [f"{name} is missing" for name in expected if name not in sent]
    problems += [f"{name} is unknown" for name in sent if name not in expected]
    problems += [
        f"{name} has shape {list(shape)}, the model's has {list(expected[name])}"
        for name, shape in sent.items()
        if name in expected and shape != expected[name]
    ]
    if len(sent) != len(weights.specs):
        problems.append("a name occurs twice")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"version {weights.version} is not of this engine's model: "
            f"{'; '.join(problems[:3])}{more}"
        )


def send_chunk(
    sender: WeightSender, version: int, number: int, chunk: Chunk, content: np.ndarray
) -> Sent:
    """Check one chunk and give it to the transport.

    Args:
        sender: Of the transport.
        version: Of the publication that `sender` has begun.
        number, chunk: Which one this is.
        content: uint8 [chunk.num_bytes]; the caller's again when this returns.

    Raises:
        WeightsError: A tensor is not finite, or the transport failed.
    """
    check_finite(version, chunk, content)
    found = digest(version, number, chunk, content)
    return Sent(ticket=sender.put(number, content), digest=found)


def send(
    sender: WeightSender, version: int, tensors: Iterable[tuple[str, Tensor]], probe: Probe
) -> WeightsVersion:
    """Publish tensors that are at hand, in one go.

    Args:
        sender: Of the transport.
        version: The learner step whose weights these are.
        tensors: Name and tensor of any shape, tied ones once; of a dtype in `ITEM_BYTES`.
        probe: Sequences on which engine and learner must agree, int32 [T] and float32 [T - 1].

    Raises:
        WeightsError: A tensor is not finite or of another dtype, or the transport failed.
    """
    named = [(name, tensor.detach()) for name, tensor in tensors]
    specs = tuple(spec_of(name, tensor) for name, tensor in named)
    sender.begin(version, specs)
    sent, rest = [], iter(named)
    for number, chunk in enumerate(layout(specs)):
        content = np.empty(chunk.num_bytes, dtype=np.uint8)
        for (_, target), (_, tensor) in zip(chunk.tensors(content), rest, strict=False):
            target.copy_(tensor)
        sent.append(Resolved(send_chunk(sender, version, number, chunk, content)))
    return WeightsVersion(
        version=version,
        specs=specs,
        transport=sender.transport,
        probe_ids=probe.token_ids,
        chunks=tuple(sent),
        probe_logprobs=Resolved(probe.logprobs),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A chunk that has left the learner, with all that whoever fetches it must know.

    Attributes:
        version: Of the publication.
        number: Which chunk, from 0.
        num_chunks: Of the publication.
        chunk: What lies where in it.
        ticket: What the transport fetches it with.
        digest: Of what was sent.
    """

    version: int
    number: int
    num_chunks: int
    chunk: Chunk
    ticket: Any
    digest: str

    @property
    def what(self) -> str:
        """It, in words."""
        return f"version {self.version}: chunk {self.number + 1} of {self.num_chunks}"

    def check(self, content: np.ndarray) -> None:
        """Compare what arrived, uint8 [bytes], with what was announced and sent.

        Raises:
            WeightsError: Another size, or other contents.
        """
        if content.nbytes != self.chunk.num_bytes:
            raise WeightsError(
                f"{self.what} has {content.nbytes} bytes, {self.chunk.num_bytes} were announced"
            )
        found = digest(self.version, self.number, self.chunk, content)
        if found != self.digest:
            raise WeightsError(
                f"{self.what}: the contents that arrived are not those that were sent "
                f"(digest {found[:12]}, announced {self.digest[:12]})"
            )


def offers(weights: WeightsVersion, timeout_s: float) -> Iterator[Offer]:
    """Tell of the chunks of a publication, in order, each as soon as it has left the learner.

    Args:
        weights: The publication.
        timeout_s: Longest wait for a chunk.

    Raises:
        WeightsError: A chunk is missing, surplus or late.
    """
    chunks = layout(weights.specs)
    if len(weights.chunks) != len(chunks):
        raise WeightsError(
            f"version {weights.version}: {len(weights.chunks)} chunks were sent, but "
            f"{len(chunks)} are announced"
        )
    for number, (chunk, promise) in enumerate(zip(chunks, weights.chunks, strict=True)):
        try:
            sent = promise.get(timeout_s)
        except OaplError as error:
            raise WeightsError(
                f"version {weights.version}: chunk {number + 1} of {len(chunks)} did not leave "
                f"the learner: {error}"
            ) from error
        yield Offer(
            version=weights.version,
            number=number,
            num_chunks=len(chunks),
            chunk=chunk,
            ticket=sent.ticket,
            digest=sent.digest,
        )


def received(
    weights: WeightsVersion, fetch: Callable[[Offer], np.ndarray], timeout_s: float
) -> Tensors:
    """Hand on the tensors of `weights.specs`, of chunks that are fetched one at a time, in order.

    Args:
        weights: The publication.
        fetch: Brings the content of a chunk, uint8 [chunk.num_bytes].
        timeout_s: Longest wait until the learner has sent a chunk.

    Returns:
        Name and tensor [...], a view of its chunk.

    Raises:
        WeightsError: A chunk is missing, surplus, late, of another size, or not what was sent.
    """
    for offer in offers(weights, timeout_s):
        content = fetch(offer)
        offer.check(content)
        yield from offer.chunk.tensors(content)

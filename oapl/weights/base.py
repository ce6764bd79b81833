"""What every transport shares: the list of tensors, the finiteness check, the digest.

Invariants: a non-finite tensor never leaves a sender; a receiver hands on exactly the tensors of
`WeightsVersion.specs`, in that order, or raises. The digest covers names, types, shapes and
contents, so it can only be compared when the last tensor has passed: a consumer that was handed
tensors before `WeightsError` came must throw them away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import xxhash

from oapl.errors import WeightsError
from oapl.records import TensorSpec, WeightsVersion

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Tensors = Iterator[tuple[str, "Tensor"]]

INFINITIES = {
    "float32": (4, 0x7F800000),
    "bfloat16": (2, 0x7F80),
    "float16": (2, 0x7C00),
}
"""Per type that is published, its bytes and +infinity as an integer."""


def spec_of(name: str, tensor: Tensor) -> TensorSpec:
    """Name, shape and torch's name of the dtype."""
    return TensorSpec(
        name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch.")
    )


def check_finite(name: str, content: np.ndarray, dtype: str, version: int) -> None:
    """Refuse NaN and infinities: the numbers whose exponent has all bits set.

    Read as integers these are the largest of either sign, so two maxima find them; a mask
    of every number, or extremes of numbers of 16 bits, take two to ten times as long.

    Args:
        name: The tensor's.
        content: Its memory, uint8.
        dtype: Torch's name of its type.
        version: Of the publication.

    Raises:
        WeightsError: Names the tensor.
    """
    if not content.size or dtype not in INFINITIES:
        return
    size, infinity = INFINITIES[dtype]
    sign = 1 << (8 * size - 1)
    if (
        content.view(f"i{size}").max() >= infinity
        or content.view(f"u{size}").max() >= sign + infinity
    ):
        raise WeightsError(
            f"version {version}: {name} holds non-finite numbers; they would leave NaN in "
            f"the log-probs of every engine, so they are not published"
        )


def to_bytes(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as uint8 [bytes]; no copy when it is contiguous. Any dtype, bf16 too."""
    import torch

    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()


def from_bytes(buffer: np.ndarray, spec: TensorSpec) -> Tensor:
    """The tensor over a uint8 buffer that starts at a multiple of the item size; no copy.

    A buffer of a shared store is read-only: whoever takes the tensor copies, never writes.

    Raises:
        WeightsError: The buffer is of another size than the spec.
    """
    import warnings

    import torch

    dtype: torch.dtype = getattr(torch, spec.dtype)
    if buffer.nbytes != math.prod(spec.shape) * dtype.itemsize:
        raise WeightsError(f"{buffer.nbytes} bytes arrived for {spec}")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        flat = torch.from_numpy(buffer)
    return flat.view(dtype).reshape(spec.shape)


class Manifest:
    """Grows with each tensor sent or received: the specs, the bytes, the digest so far.

    What a receiver adds is what was sent, or else the digest differs: only a sender looks for
    numbers that are not finite.
    """

    def __init__(self, version: int, *, is_sender: bool = True) -> None:
        self.specs: list[TensorSpec] = []
        self.num_bytes = 0
        self._version = version
        self._is_sender = is_sender
        # Against accidents, not forgers: SHA-256 took longer than loading the weights.
        self._hash = xxhash.xxh3_128()

    def add(self, name: str, tensor: Tensor) -> np.ndarray:
        """Check and count one tensor.

        Returns:
            Its memory, uint8.

        Raises:
            WeightsError: It is not finite, and this is the sender's.
        """
        spec, content = spec_of(name, tensor), to_bytes(tensor)
        if self._is_sender:
            check_finite(name, content, spec.dtype, self._version)
        self.specs.append(spec)
        self.num_bytes += content.nbytes
        self._hash.update(f"{spec.name}|{spec.dtype}|{spec.shape}".encode())
        self._hash.update(content.data)
        return content

    def digest(self) -> str:
        return self._hash.hexdigest()


def verified(weights: WeightsVersion, tensors: Tensors) -> Tensors:
    """Pass tensors on while comparing them with what the publication says it holds.

    Raises:
        WeightsError: One is missing, surplus, out of order, of another shape or type, or the
            contents are not those that were sent.
    """
    seen = Manifest(weights.version, is_sender=False)
    for name, tensor in tensors:
        spec, position = spec_of(name, tensor), len(seen.specs)
        if position >= len(weights.specs) or spec != weights.specs[position]:
            expected = weights.specs[position] if position < len(weights.specs) else "nothing"
            raise WeightsError(
                f"version {weights.version}: tensor {position} is {spec}, expected {expected}"
            )
        seen.add(name, tensor)
        yield name, tensor
    if len(seen.specs) != len(weights.specs):
        raise WeightsError(
            f"version {weights.version}: {len(seen.specs)} tensors arrived of "
            f"{len(weights.specs)}; the first missing one is {weights.specs[len(seen.specs)].name}"
        )
    if seen.digest() != weights.digest:
        raise WeightsError(
            f"version {weights.version}: the contents that arrived are not those that were sent "
            f"(digest {seen.digest()[:12]}, announced {weights.digest[:12]})"
        )


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
    problems += [
        f"{spec.name} has dtype {spec.dtype}"
        for spec in weights.specs
        if spec.dtype not in ("float32", "bfloat16", "float16")
    ]
    if len(sent) != len(weights.specs):
        problems.append("a name occurs twice")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"version {weights.version} is not of this engine's model: "
            f"{'; '.join(problems[:3])}{more}"
        )


Place = tuple[int, int, int]
"""Where a tensor lies: chunk, first byte in it, bytes."""
ALIGNMENT = 64
"""Of a tensor within its chunk: torch refuses to view a float at an odd address."""


class Packer:
    """Copies tensors into chunks; holds one chunk at a time.

    Args:
        chunk_bytes: Of a chunk; a larger tensor makes one of its own.
        put: Takes each chunk, uint8, when it is full.
        is_copied: `put` copies the chunk, so that its memory may serve the next one.
    """

    def __init__(
        self, chunk_bytes: int, put: Callable[[np.ndarray], Any], *, is_copied: bool
    ) -> None:
        self._is_copied = is_copied
        self._chunk_bytes = chunk_bytes
        self._put_chunk = put
        self._chunks: list[Any] = []
        self._places: list[Place] = []
        self._buffer: np.ndarray | None = None
        self._used = 0

    def add(self, content: np.ndarray) -> None:
        import numpy as np

        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if self._buffer is None or start + content.nbytes > self._buffer.nbytes:
            self._put()
            start = 0
            if self._buffer is None or content.nbytes > self._buffer.nbytes:
                self._buffer = np.empty(max(self._chunk_bytes, content.nbytes), dtype=np.uint8)
        self._buffer[start : start + content.nbytes] = content
        self._places.append((len(self._chunks), start, content.nbytes))
        self._used = start + content.nbytes

    def finish(self) -> tuple[tuple[Any, ...], tuple[Place, ...]]:
        """What `put` answered for each chunk, and the place of each tensor."""
        self._put()
        return tuple(self._chunks), tuple(self._places)

    def _put(self) -> None:
        if self._buffer is not None and self._used:
            self._chunks.append(self._put_chunk(self._buffer[: self._used]))
        self._used = 0
        if not self._is_copied:
            self._buffer = None


def unpacked(
    weights: WeightsVersion, places: Sequence[Place], fetch: Callable[[int], np.ndarray]
) -> Tensors:
    """The tensors of `weights.specs`, views of chunks that are fetched one at a time, in order.

    Raises:
        WeightsError: The publication has other tensors than it announces.
    """
    if len(places) != len(weights.specs):
        raise WeightsError(
            f"version {weights.version}: {len(places)} tensors were sent, but "
            f"{len(weights.specs)} are announced"
        )
    held, buffer = -1, None
    for spec, (chunk, start, size) in zip(weights.specs, places, strict=True):
        if buffer is None or chunk != held:
            held, buffer = chunk, fetch(chunk)
        yield spec.name, from_bytes(buffer[start : start + size], spec)

"""Whole parameters out of a possibly sharded model: for the engines and for `transformers`.

Invariants: names are Hugging Face's own; a tied output layer is the embedding and appears once;
every call here is made by all ranks together, and each iterates to the end, since gathering a
sharded parameter is collective.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from learner.companions import copy_companions
from oapl.config import RunConfig
from oapl.errors import InputError, first_line
from oapl.records import TensorSpec
from oapl.weights.base import Chunk, in_order
from oapl.whole_files import written_aside

CHUNK_BYTES = 64 * 2**20
"""Sharded parameters gathered at a time for a file; 16 MiB to all at once were equally fast."""
GENERATION_FILE = "generation_config.json"


def to_publish(
    model: nn.Module, dtype: str
) -> tuple[tuple[TensorSpec, ...], tuple[nn.Parameter, ...]]:
    """List every parameter and what it is published as, in the order to send; a tied one once.

    Args:
        model: The Hugging Face model inside the engine.
        dtype: Torch's name of the engines' type.

    Returns:
        Specs with whole shapes, and their parameters, which may be sharded.
    """
    named = dict(model.named_parameters())
    specs = [
        TensorSpec(
            name=name, shape=tuple(getattr(parameter, "ds_shape", parameter.shape)), dtype=dtype
        )
        for name, parameter in named.items()
    ]
    order = in_order(specs)
    return tuple(specs[i] for i in order), tuple(named[specs[i].name] for i in order)


def read(parameters: Sequence[nn.Parameter], chunk: Chunk, content: np.ndarray | None) -> None:
    """Gather the parameters of a chunk and cast them to where they lie in it.

    Args:
        parameters: Those of `chunk.specs`.
        chunk: Types and places.
        content: uint8 [chunk.num_bytes] to write; None on ranks that only take part.
    """
    with _whole(list(parameters)):
        if content is None:
            return
        for parameter, (_, target) in zip(parameters, chunk.tensors(content), strict=True):
            target.copy_(parameter.detach())


def gathered(model: nn.Module, *, is_reader: bool = True) -> Iterator[tuple[str, Tensor]]:
    """Gather the parameters one chunk at a time.

    Args:
        model: The Hugging Face model inside the engine.
        is_reader: Ranks that only take part in the gathering get empty tensors.

    Yields:
        Name and a CPU tensor of its own, whole, in the learner's type.
    """
    for chunk in _chunks(model):
        with _whole([parameter for _, parameter in chunk]):
            for name, parameter in chunk:
                tensor = parameter.detach() if is_reader else parameter.detach().flatten()[:0]
                yield name, tensor.to("cpu", copy=True)


def save_model(model: Any, path: Path, config: RunConfig, *, is_writer: bool) -> None:
    """Write safetensors, configuration, tokenizer and what else lies beside the weights.

    The folder appears whole or not at all.

    Args:
        model: The Hugging Face model inside the engine.
        path: Folder to write; an older one there is replaced.
        config: The run's, for what lies beside the weights at `model.path`.
        is_writer: The one rank that writes.
    """
    tensors = gathered(model, is_reader=is_writer)
    if not is_writer:
        for _ in tensors:
            pass
        return
    state = dict(tensors)
    with written_aside(path) as part:
        _write(model, part, config, state)


def try_out(model: Any, config: RunConfig) -> None:
    """Write all that `save_model` does but the weights, and throw it away: the end is too late.

    Args:
        model: The Hugging Face model, as it was loaded.
        config: The run's.

    Raises:
        InputError: It cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            _write(model, Path(folder) / "model", config, {})
    except Exception as error:
        raise InputError(
            f"model.path = {config.model.path!r}: what this run trains could not be saved "
            f"({type(error).__name__}: {first_line(error)}); mend the model's configuration or "
            "tokenizer files"
        ) from error


def _write(model: Any, folder: Path, config: RunConfig, state: dict[str, Tensor]) -> None:
    folder.mkdir()
    _save_weights(model, folder, state)
    if (source := _folder_of(config)) is not None:
        copy_companions(source, folder)
    else:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(
            config.model.path, trust_remote_code=config.model.trust_remote_code
        ).save_pretrained(folder)
    if not (folder / GENERATION_FILE).exists():
        model.generation_config.to_json_file(folder / GENERATION_FILE)


def _save_weights(model: Any, folder: Path, state: dict[str, Tensor]) -> None:
    """And the configuration, but not that of generation: transformers refuses to save some of
    those that it loads with a warning."""
    from transformers import GenerationConfig

    given, model.generation_config = model.generation_config, GenerationConfig()
    try:
        model.save_pretrained(folder, state_dict=state)
    finally:
        model.generation_config = given
    (folder / GENERATION_FILE).unlink(missing_ok=True)


def _folder_of(config: RunConfig) -> Path | None:
    """The model's folder, or where the hub's files lie; None if they lie nowhere here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    path = Path(config.model.path)
    if path.is_dir():
        return path
    try:
        return Path(snapshot_download(config.model.path, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _chunks(model: nn.Module) -> Iterator[list[tuple[str, Any]]]:
    chunk: list[tuple[str, Any]] = []
    size = 0
    for name, parameter in model.named_parameters():  # a tied parameter comes once
        chunk.append((name, parameter))
        size += getattr(parameter, "ds_numel", parameter.numel()) * parameter.element_size()
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _whole(parameters: list[Any]) -> Any:
    """A context in which sharded parameters are whole; for unsharded ones nothing happens."""
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)

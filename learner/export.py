"""Whole parameters out of a possibly sharded model: for the engines and for `transformers`.

Invariants: names are Hugging Face's own; a tied output layer is the embedding and appears once;
every call here is made by all ranks together, and each iterates to the end, since gathering a
sharded parameter is collective.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from oapl.config import RunConfig
from oapl.records import TensorSpec
from oapl.weights.base import Chunk, in_order
from oapl.whole_files import written_aside

CHUNK_BYTES = 64 * 2**20
"""Sharded parameters gathered at a time for a file; 16 MiB to all at once were equally fast."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


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
    """Write safetensors, configuration and tokenizer; the folder appears whole or not at all.

    Args:
        model: The Hugging Face model inside the engine.
        path: Folder to write; an older one there is replaced.
        config: The run's, for the tokenizer at `model.path`.
        is_writer: The one rank that writes.
    """
    tensors = gathered(model, is_reader=is_writer)
    if not is_writer:
        for _ in tensors:
            pass
        return
    state = dict(tensors)
    with written_aside(path) as part:
        part.mkdir()
        model.save_pretrained(part, state_dict=state)
        _save_tokenizer(part, config)


def _save_tokenizer(target: Path, config: RunConfig) -> None:
    """Copied file by file where there are files: loading one may replace its pre-tokenizer."""
    source = Path(config.model.path)
    if source.is_dir():
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(
        config.model.path, trust_remote_code=config.model.trust_remote_code
    ).save_pretrained(target)


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

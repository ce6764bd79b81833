"""Whole parameters out of a possibly sharded model: for the engines and for `transformers`.

Invariants: names are Hugging Face's own; a tied output layer is the embedding and appears once;
every call here is made by all ranks together, and each iterates to the end, since gathering a
sharded parameter is collective.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oapl.config import RunConfig

CHUNK_BYTES = 64 * 2**20
"""Sharded parameters gathered at a time; 16 MiB to all at once were equally fast."""
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


def gathered(
    model: nn.Module, dtype: torch.dtype | None = None, *, is_reader: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """(name, CPU tensor) of every parameter.

    Args:
        model: The Hugging Face model inside the engine.
        dtype: To cast to; None keeps the learner's.
        is_reader: Ranks that only take part in the gathering get empty tensors.

    Yields:
        Tensors that share memory with the model or with the next one that is yielded: a consumer
        that keeps one copies it.
    """
    to_host = _Host(dtype)
    for chunk in _chunks(model):
        with _whole([parameter for _, parameter in chunk]):
            for name, parameter in chunk:
                tensor = parameter.detach() if is_reader else parameter.detach().flatten()[:0]
                yield name, to_host(tensor)


class _Host:
    """Casts one tensor after the other into the same memory: fresh pages cost more than casting."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        self._dtype = dtype
        self._memory = torch.empty(0)

    def __call__(self, tensor: Tensor) -> Tensor:
        dtype = self._dtype or tensor.dtype
        if tensor.device.type == "cpu" and tensor.dtype == dtype:
            return tensor
        if self._memory.numel() < tensor.numel() or self._memory.dtype != dtype:
            self._memory = torch.empty(tensor.numel(), dtype=dtype)
        return self._memory[: tensor.numel()].view(tensor.shape).copy_(tensor)


def save_model(model: Any, path: Path, config: RunConfig, *, is_writer: bool) -> None:
    """Safetensors, configuration and tokenizer at `path`, which appears complete or not at all.

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
    state = {name: tensor.clone() for name, tensor in tensors}
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part, state_dict=state)
    _save_tokenizer(part, config)
    if path.exists():
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


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

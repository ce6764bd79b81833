"""How large the model is, for what depends on it: publications, memory, and assumed rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from actors.data.tokenizer import load_model_config
from deploy.checks.model_files import count_parameters, has_weights
from deploy.sizing.shape import Shape, shape_of
from oapl.config import RunConfig
from oapl.errors import InputError

KV_BYTES, OF = 40_000.0, 1e9
"""Of a token's keys and values in 16 bits in a model of so many parameters, growing with the square
root: within a factor of two of Qwen's models from 1.5 to 32 billion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What of a model is counted.

    Attributes:
        parameters: All of them.
        kv_bytes: Of a token's keys and values, in the engine's dtype.
        attention: Layers times width of the queries; 0: not known.
        shape: For memory; None: not known, and memory is not looked at.
        is_assumed: `kv_bytes` is a guess by size.
    """

    parameters: float
    kv_bytes: float
    attention: float = 0.0
    shape: Shape | None = None
    is_assumed: bool = True


def of_size(parameters: float, item: int) -> Model:
    """Know nothing but the size.

    Args:
        parameters: How many.
        item: Bytes of a number in engines.
    """
    kv = KV_BYTES * math.sqrt(parameters / OF) * item / 2
    return Model(parameters=parameters, kv_bytes=kv)


def of_shape(shape: Shape, item: int) -> Model:
    """Count them.

    Args:
        shape: The model's.
        item: Bytes of a number in engines.
    """
    return Model(
        parameters=shape.parameters,
        kv_bytes=2 * shape.layers * shape.key_width * item,
        attention=shape.layers * shape.query_width,
        shape=shape,
        is_assumed=False,
    )


def model_of(config: RunConfig, parameters: float, item: int) -> Model:
    """Read the recipe's model, or take a size that was given.

    Args:
        config: The run.
        parameters: Given; 0: read config.json of the folder, or of the hub.
        item: Bytes of a number in engines.

    Raises:
        InputError: Neither a size nor a configuration is there.
    """
    if parameters:
        return of_size(parameters, item)
    path = Path(config.model.path)
    try:
        found = load_model_config(config.model.path, config.model.trust_remote_code)
    except InputError as error:
        raise InputError(f"{error}; or say how large it is: --parameters 4e9") from error
    counted = count_parameters(path)[0] if path.is_dir() and has_weights(path) else None
    return of_shape(shape_of(found, counted or None), item)

"""What is sent to the engines, and the object store that holds it."""

from __future__ import annotations

from deploy.sizing.memory import engine_item
from deploy.sizing.shape import Shape
from oapl.config import RunConfig
from oapl.config.objective import has_engines
from oapl.weights.object_store import KEPT_VERSIONS

STORE_BYTES = 512 * 2**20
"""Of Ray's object store beside publications."""


def publication_bytes(config: RunConfig, shape: Shape) -> int:
    """Count all parameters in the engines' dtype.

    Args:
        config: The run.
        shape: The model's.
    """
    return shape.parameters * engine_item(config)


def store_bytes(config: RunConfig, shape: Shape) -> int:
    """Size the object store of a Ray of our own.

    It holds the publications that are kept, the one that is being written, and rollouts.

    Args:
        config: The run.
        shape: The model's.
    """
    if not has_engines(config) or config.sync.transport != "object_store":
        return STORE_BYTES
    return STORE_BYTES + (kept_versions(config) + 1) * publication_bytes(config, shape)


def kept_versions(config: RunConfig) -> int:
    """Count the publications that are kept: the last one for engines set aside, too."""
    return KEPT_VERSIONS + bool(config.eval.engines)

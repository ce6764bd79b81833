"""The weights that engines serve, kept in a checkpoint that is taken between two publications.

Engines hold version v, not the learner's present weights, so a resumed run must publish v again.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

from oapl import plugins
from oapl.config import RunConfig
from oapl.records import WeightsVersion

TENSORS = "published.safetensors"
RECORD = "published.pkl"


def save(folder: Path, weights: WeightsVersion, config: RunConfig) -> None:
    """Fetch `weights` back through their transport and write them."""
    from safetensors.torch import save_file

    receiver = plugins.load("oapl.weights", weights.transport).build_receiver(config)
    save_file(
        {name: tensor.contiguous() for name, tensor in receiver.receive(weights)},
        str(folder / TENSORS),
    )
    (folder / RECORD).write_bytes(pickle.dumps(replace(weights, location=None)))


def exists(folder: Path) -> bool:
    return (folder / TENSORS).is_file() and (folder / RECORD).is_file()


def load(folder: Path, config: RunConfig) -> WeightsVersion:
    """Publish the saved version again, from this process."""
    from safetensors.torch import load_file

    weights: WeightsVersion = pickle.loads((folder / RECORD).read_bytes())
    tensors = load_file(str(folder / TENSORS))
    sender = plugins.load("oapl.weights", config.sync.transport).build_sender(config)
    named = ((spec.name, tensors[spec.name]) for spec in weights.specs)
    return sender.send(weights.version, named, weights.probe)

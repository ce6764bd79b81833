"""The weights that engines serve, kept in a checkpoint that is taken between two publications.

Engines hold version v, not the learner's present weights, so a resumed run must publish v again.
"""

from __future__ import annotations

from pathlib import Path

from learner.checkpoints import contents
from oapl.config import RunConfig
from oapl.records import Probe, WeightsVersion
from oapl.weights.base import TRANSPORTS, send

TENSORS = "published.safetensors"
RECORD = "published.pkl"


def save(folder: Path, weights: WeightsVersion, config: RunConfig) -> None:
    """Fetch `weights` back through their transport and write them.

    Args:
        folder: Of the checkpoint.
        weights: What engines serve.
        config: The run's.

    Raises:
        WeightsError: They cannot be fetched any more.
    """
    from safetensors.torch import save_file

    receiver = TRANSPORTS.load(weights.transport).build_receiver(config)
    save_file(
        {name: tensor.contiguous() for name, tensor in receiver.receive(weights)},
        str(folder / TENSORS),
    )
    scores = weights.probe_logprobs.get(config.sync.timeout_s)
    record = {
        "version": weights.version,
        "names": [spec.name for spec in weights.specs],
        "probe": Probe(token_ids=weights.probe_ids, logprobs=scores),
    }
    contents.write_pickle(folder / RECORD, record)


def exists(folder: Path) -> bool:
    """Whether the checkpoint in `folder` holds such weights."""
    return (folder / TENSORS).is_file() and (folder / RECORD).is_file()


def load(folder: Path, config: RunConfig) -> WeightsVersion:
    """Publish the saved version again, from this process.

    Args:
        folder: Of the checkpoint.
        config: The run's; its transport need not be that of the run which saved.

    Raises:
        CheckpointError: Another version of oapl wrote it.
    """
    from safetensors.torch import load_file

    record = contents.read_pickle(folder / RECORD)
    tensors = load_file(str(folder / TENSORS))
    sender = TRANSPORTS.load(config.sync.transport).build_sender(config)
    named = ((name, tensors[name]) for name in record["names"])
    return send(sender, record["version"], named, record["probe"])

"""The weights that engines serve, kept in a checkpoint that is taken between two publications.

Engines hold version v, not the learner's present weights, so a resumed run must publish v again.
"""

from __future__ import annotations

import pickle
from pathlib import Path

from oapl.config import RunConfig
from oapl.errors import CheckpointError
from oapl.records import Probe, WeightsVersion
from oapl.weights.base import TRANSPORTS, send

TENSORS = "published.safetensors"
RECORD = "published.pkl"


def save(folder: Path, weights: WeightsVersion, config: RunConfig) -> None:
    """Fetch `weights` back through their transport and write them.

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
    (folder / RECORD).write_bytes(pickle.dumps(record))


def exists(folder: Path) -> bool:
    return (folder / TENSORS).is_file() and (folder / RECORD).is_file()


def load(folder: Path, config: RunConfig) -> WeightsVersion:
    """Publish the saved version again, from this process.

    Raises:
        CheckpointError: Another version of oapl wrote it.
    """
    from safetensors.torch import load_file

    try:
        record = pickle.loads((folder / RECORD).read_bytes())
        version, names, probe = record["version"], record["names"], record["probe"]
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / RECORD} was written by another version of oapl; resume with that one, or "
            f"from a checkpoint taken at a synchronisation"
        ) from error
    tensors = load_file(str(folder / TENSORS))
    sender = TRANSPORTS.load(config.sync.transport).build_sender(config)
    return send(sender, version, ((name, tensors[name]) for name in names), probe)

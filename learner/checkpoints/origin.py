"""Which models a checkpoint was trained from: the policy's, and the critic's.

A resumed run reads `model.path` and then loads the checkpoint over it, so that another model of the
same shape would be ignored without a word; so it is with `critic.path`. Invariants: a model that
was copied, moved, or saved again in other files is the same one; one whose files cannot be read
here is never refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.weight_files import fingerprint_of

FILE = "model.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A model.

    Attributes:
        path: As it was written.
        fingerprint: Of its tensors; empty where no safetensors lie in that place.
    """

    path: str
    fingerprint: str


Origins = Mapping[str, Origin]
"""By the setting that names a model."""


def origins_of(config: RunConfig) -> Origins:
    """Look at the models that a run starts from; reads a few kilobytes of each."""
    paths = {"model.path": config.model.path, "critic.path": config.critic.path}
    return {
        setting: Origin(path=path, fingerprint=fingerprint_of(Path(path)))
        for setting, path in paths.items()
        if path or setting == "model.path"
    }


def write(checkpoint: Path, origins: Origins) -> None:
    """Note the models in a checkpoint.

    Args:
        checkpoint: Its folder.
        origins: As they were when the run began: the files may be gone by now.
    """
    noted = {setting: asdict(origin) for setting, origin in origins.items()}
    (checkpoint / FILE).write_text(json.dumps(noted))


def check(checkpoint: Path, config: RunConfig) -> None:
    """Refuse to go on with another model.

    Args:
        checkpoint: What the run is to go on from; one of an earlier build names no model.
        config: The run.

    Raises:
        InputError: `model.path` or `critic.path` is not what the checkpoint was trained from.
        ValueError: The note is damaged.
    """
    if not (checkpoint / FILE).is_file():
        return
    noted = json.loads((checkpoint / FILE).read_text())
    here = origins_of(config)
    for setting in ("model.path", "critic.path"):
        # An empty critic.path means the policy's model.
        saved = Origin(**noted.get(setting, noted["model.path"]))
        _check(checkpoint, setting, saved, here.get(setting, here["model.path"]))


def _check(checkpoint: Path, setting: str, saved: Origin, here: Origin) -> None:
    if saved.fingerprint and here.fingerprint:
        is_other = saved.fingerprint != here.fingerprint
    else:  # of a hub's model nothing is known but its name, and a folder may hold a copy of it
        is_other = saved.path != here.path and not (saved.fingerprint or here.fingerprint)
    if is_other:
        was = "which has changed since" if saved.path == here.path else f"not {saved.path!r}"
        raise InputError(
            f"{setting} = {here.path!r}, {was}: {checkpoint} was trained from that and holds all "
            f"weights, so that this model would be ignored; set {setting} back, or begin with this "
            "model under another run.name"
        )

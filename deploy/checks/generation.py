"""What `oapl generate` has to make, and what of it is there: told by the folder of its groups.

Invariants: a draw whose group is in a whole shard is done, every other one is not; to groups of
another recipe none are added.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.data.fingerprints import header_of
from actors.data.ordering import digest_of
from oapl import groups_file
from oapl.config import RunConfig
from oapl.config.messages import shown
from oapl.errors import InputError
from oapl.groups_file import Header
from oapl.records import Prompt
from oapl.weight_files import fingerprint_of
from oapl.whole_files import written_aside

FOLDER, RECIPE = "groups", "_recipe.json"
"""Of a run folder, and in it: what the groups are made of."""
OF_ROLLOUTS = ("group_size", "temperature", "top_p", "top_k", "max_tokens")
OF_REWARDS = ("verifiers", "options", "on_failure")
FOUND = {
    "weights": "the weights in model.path",
    "rows": "the rows of data.sources, or how prompts are written of them,",
}
"""What is no setting, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a run generates.

    Attributes:
        folder: Of the groups.
        header: What the set says of itself.
        recipe: What decides about its groups, by setting.
        total: Groups of the whole.
        done: Draws whose groups are in whole shards.
        group_size: G.
    """

    folder: Path
    header: Header
    recipe: Mapping[str, Any]
    total: int
    done: frozenset[str]
    group_size: int

    def __str__(self) -> str:
        begun = f", {len(self.done):,} of them are there" if self.done else ""
        return f"{self.total:,} groups of {self.group_size}{begun}, in {self.folder}"

    def begin(self) -> None:
        """Note in the folder what its groups are made of."""
        with written_aside(self.folder / RECIPE) as part:
            part.write_text(json.dumps(self.recipe, indent=1) + "\n")


def generating(config: RunConfig) -> RunConfig:
    """The recipe as `oapl generate` reads it: engines answer, each question once unless
    `data.epochs` says more; which set a later run trains on is none of its business."""
    replay = dataclasses.replace(config.replay, source="live", path=())
    data = dataclasses.replace(config.data, epochs=config.data.epochs or 1)
    return dataclasses.replace(config, replay=replay, data=data)


def look_at_generation(config: RunConfig, tokenizer: Any, prompts: Sequence[Prompt]) -> Generation:
    """Find out what is there.

    Args:
        config: Of `generating`.
        tokenizer: The model's.
        prompts: All of them, of one pass.

    Raises:
        InputError: The folder holds groups of another recipe, or a damaged shard.
    """
    folder = config.folder / FOLDER
    found = Generation(
        folder=folder,
        header=header_of(config, tokenizer, made_by="generate", logprobs="sampled"),
        recipe=_recipe(config, prompts),
        total=len(prompts) * config.data.epochs,
        done=frozenset(),
        group_size=config.rollout.group_size,
    )
    if not groups_file.is_set(folder):
        return found
    _check_same(found)
    return dataclasses.replace(found, done=done_in(folder))


def done_in(folder: Path) -> frozenset[str]:
    """The draws whose groups are in whole shards.

    Args:
        folder: Of the groups; it need not exist.

    Raises:
        InputError: A shard is damaged.
    """
    return frozenset(groups_file.ids(folder)) if groups_file.is_set(folder) else frozenset()


def _recipe(config: RunConfig, prompts: Sequence[Prompt]) -> Mapping[str, Any]:
    rollout = {f"rollout.{key}": getattr(config.rollout, key) for key in OF_ROLLOUTS}
    reward = {f"reward.{key}": getattr(config.reward, key) for key in OF_REWARDS}
    sources = [asdict(source) for source in config.data.sources]
    made_of = {
        "weights": fingerprint_of(Path(config.model.path)) or config.model.path,
        "model.dtype": config.model.dtype,
        **rollout,
        **reward,
        "data.sources": sources,
        "rows": digest_of(prompts),
    }
    read: Mapping[str, Any] = json.loads(json.dumps(made_of, default=str))
    return read


def _check_same(ours: Generation) -> None:
    folder, otherwise = ours.folder, "set it back, or choose another run.name"
    made_by = groups_file.header(folder).made_by
    if made_by != "generate" or not (folder / RECIPE).is_file():
        raise InputError(
            f"{folder} holds groups that this command did not make (made by {made_by}); choose "
            "another run.name, or move them"
        )
    theirs = json.loads((folder / RECIPE).read_text())
    for key, value in ours.recipe.items():
        if theirs.get(key) == value:
            continue
        if key in FOUND:
            raise InputError(
                f"{folder} holds groups, and {FOUND[key]} have changed since; {otherwise}"
            )
        raise InputError(
            f"{key} = {shown(value)}: {folder} holds groups that were made with "
            f"{shown(theirs.get(key))}; {otherwise}"
        )

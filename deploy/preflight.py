"""What can be known to fail is found before anything starts: settings, model, tokenizer, data.

Reads files and nothing else: no process, no GPU, no inference or training library, and it makes no
folder. What it learns on the way is what `--dry-run` prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import prompts
from actors.encoding import Counts
from actors.templates import choose
from actors.tokenizer import context_tokens, first_line, load_model_config, load_tokenizer
from deploy import folders, ray_cluster
from oapl.checks import check
from oapl.cli import to_toml
from oapl.config import RunConfig
from oapl.errors import InputError
from reward_server import settings as rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The resolved configuration and what it means.

    Attributes:
        facts: Name to one line of text, in the order to be shown.
        notes: What a person should know before the run goes on: prompts dropped or cut, data that
            ends before the last step.
    """

    config: RunConfig
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """TOML, the facts as comments: fit to be saved as a recipe."""
        width = max(map(len, self.facts))
        lines = [f"# {name:<{width}}  {text}" for name, text in self.facts.items()]
        lines += [f"# note: {note}" for note in self.notes]
        return "\n".join([to_toml(self.config).rstrip(), "", *lines])


def preflight(config: RunConfig, *, training: bool = True) -> Report:
    """Refuse what cannot work.

    Args:
        config: The run.
        training: Demand `data.sources` and read them; False for an evaluation alone.

    Raises:
        InputError: With value, rule and remedy; nothing was started.
    """
    check(config)
    facts = {"run folder": _folder(config)}
    facts |= _model(config)
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    facts |= _tokenizer(config, tokenizer)
    facts["context"] = f"{context_tokens(config)} tokens"
    if not config.is_imitation:
        rewards.check(config)
    notes: list[str] = []
    if training:
        counts, size = _training_data(config, tokenizer)
        facts |= _describe("data", counts, notes)
        facts["steps"] = _steps(config, size, notes)
    encoded = prompts.read_sources(
        config.eval.sources, config, tokenizer, prompts.evaluation_room(config)
    )
    facts |= _describe("eval", {name: part.counts for name, part in encoded.items()}, notes)
    return Report(config=config, facts=facts, notes=tuple(notes))


def _folder(config: RunConfig) -> str:
    """Where the run will be, and whether it goes on from a checkpoint."""
    if ray_cluster.is_job() and not Path(config.run.dir).is_absolute():
        raise InputError(
            f"run.dir = {config.run.dir!r}: is relative, and the working directory of a Ray job is "
            "a temporary copy that goes with the cluster; give an absolute path on storage that "
            "all nodes share, or start the run by `oapl submit`"
        )
    folder = config.folder
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(
            f"run.dir = {config.run.dir!r}, run.name = {config.run.name!r}: {there} is a file, so "
            f"{folder} cannot be made; choose another run.dir or run.name"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"run.dir = {config.run.dir!r}: {there} cannot be written to; choose another run.dir"
        )
    checkpoint = folders.resume_from(config)
    return f"{folder}, " + ("new" if checkpoint is None else f"goes on from {checkpoint.name}")


def _model(config: RunConfig) -> dict[str, str]:
    path = config.model.path
    found = load_model_config(path, config.model.trust_remote_code)
    _tensor_parallel(config, found)
    facts = {"model": f"{path} ({found.model_type})"}
    if Path(path).is_dir():
        facts["parameters"] = _parameters(Path(path))
    return facts


def _tensor_parallel(config: RunConfig, model: Any) -> None:
    degree, heads = config.rollout.tensor_parallel_size, int(model.num_attention_heads)
    kv_heads = int(getattr(model, "num_key_value_heads", None) or heads)
    if heads % degree or (kv_heads % degree and degree % kv_heads):
        fits = [
            n for n in range(1, heads + 1) if not heads % n and not (kv_heads % n and n % kv_heads)
        ]
        raise InputError(
            f"rollout.tensor_parallel_size = {degree}: does not divide the {heads} attention heads "
            f"({kv_heads} of keys and values) of {config.model.path!r}; set it to one of "
            f"{', '.join(map(str, fits))}"
        )


def _parameters(folder: Path) -> str:
    """Counted in the headers of the weight files; no weights are read."""
    from safetensors import SafetensorError, safe_open

    files = _weight_files(folder)
    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            return "not counted: the weights are no safetensors"
        try:
            with safe_open(file, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                    size = 1
                    for length in tensors.get_slice(name).get_shape():
                        size *= length
                    total += size
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"model.path = {str(folder)!r}: {file.name} is damaged ({first_line(error)}); "
                "copy or save the model again"
            ) from error
    return f"{total:,} in {len(files)} file{'s' if len(files) > 1 else ''}"


def _weight_files(folder: Path) -> list[Path]:
    for index in folder.glob("*.index.json"):
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError) as error:
            raise InputError(
                f"model.path = {str(folder)!r}: {index.name} is damaged ({first_line(error)}); "
                "copy or save the model again"
            ) from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"model.path = {str(folder)!r}: {index.name} lists {', '.join(missing)}, which "
                "is missing; copy the model again, whole"
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise InputError(
            f"model.path = {str(folder)!r}: has no weights (*.safetensors or pytorch_model.bin); "
            "copy the model again, whole, or name another folder"
        )
    return files


def _tokenizer(config: RunConfig, tokenizer: Any) -> dict[str, str]:
    model = load_model_config(config.model.path, config.model.trust_remote_code)
    highest = max(tokenizer.get_vocab().values())
    if highest >= model.vocab_size:
        raise InputError(
            f"model.path = {config.model.path!r}: the tokenizer makes token {highest}, but the "
            f"model's vocab_size is {model.vocab_size}; the tokenizer belongs to another model, or "
            "tokens were added without resizing the embeddings"
        )
    template = choose(config.data, tokenizer).name
    return {
        "tokenizer": f"{type(tokenizer).__name__}, {len(tokenizer)} tokens, EOS "
        f"{tokenizer.eos_token!r} ({tokenizer.eos_token_id}); vocabulary {model.vocab_size}",
        "template": template,
    }


def _training_data(config: RunConfig, tokenizer: Any) -> tuple[Mapping[str, Counts], int]:
    """Counts per source, and prompts (SFT: examples) of one epoch."""
    read = prompts.ExampleQueue if config.is_imitation else prompts.build
    data = read(config, tokenizer)
    return data.counts, len(data)


def _describe(what: str, counts: Mapping[str, Counts], notes: list[str]) -> dict[str, str]:
    for name, count in counts.items():
        if count.dropped or count.truncated:
            notes.append(f"{what} {name}: {count}")
    return {f"{what} {name}": str(count) for name, count in counts.items()}


def _steps(config: RunConfig, size: int, notes: list[str]) -> str:
    per_step, wanted = config.groups_per_step, config.run.max_steps
    epochs = wanted * per_step / size
    if config.data.epochs and config.data.epochs < epochs:
        lasts = -(-config.data.epochs * size // per_step)
        notes.append(
            f"the data ends after about {lasts} of run.max_steps = {wanted} "
            f"(data.epochs = {config.data.epochs})"
        )
    return (
        f"{wanted} of {per_step} groups of {config.rollout.group_size}: {epochs:.2f} epochs; "
        f"weights published every {config.sync.interval}"
    )

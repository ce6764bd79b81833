"""What can be known of a model's files without reading weights: counts, damage, misfits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.data.templates import NAMES, choose
from actors.data.tokenizer import load_model_config
from oapl.config import RunConfig
from oapl.errors import InputError, first_line

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
"""That every decoder with attention has."""


def check_sizes(place: str, model: Any) -> None:
    """Refuse a type of model that is no decoder with attention, such as a state-space model.

    Args:
        place: The setting that names the model, and its value.
        model: Its configuration, as transformers reads it.

    Raises:
        InputError: What it lacks.
    """
    lacking = [name for name in SIZES if not isinstance(getattr(model, name, None), int)]
    if lacking:
        raise InputError(
            f"{place}: the config.json of this {model.model_type} model "
            f"tells no {' and no '.join(lacking)}, as every decoder with attention does; use a "
            "Llama, Qwen2 or Qwen3 model"
        )


def check_degree(config: RunConfig, model: Any) -> None:
    """Refuse a degree of tensor parallelism that the attention heads cannot be shared out by.

    Args:
        config: `rollout.tensor_parallel_size`.
        model: Its configuration, as transformers reads it.

    Raises:
        InputError: The degrees that would do.
    """
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


def has_weights(folder: Path) -> bool:
    """Whether files of weights lie in a folder."""
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def count_parameters(folder: Path, setting: str = "model.path") -> tuple[int, int]:
    """Parameters and files, counted in the headers of the weight files; no weights are read.

    0 parameters where they are no safetensors, whose headers cannot be read alone.

    Args:
        folder: The model's.
        setting: That names it; stands in errors.

    Raises:
        InputError: A file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    place = f"{setting} = {str(folder)!r}"
    files = _weight_files(folder, place)
    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            return 0, len(files)
        try:
            with safe_open(file, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                    size = 1
                    for length in tensors.get_slice(name).get_shape():
                        size *= length
                    total += size
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{place}: {file.name} is damaged ({first_line(error)}); "
                "copy or save the model again"
            ) from error
    return total, len(files)


def _weight_files(folder: Path, place: str) -> list[Path]:
    for index in folder.glob("*.index.json"):
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{place}: {index.name} is damaged ({first_line(error)}); "
                "copy or save the model again"
            ) from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{place}: {index.name} lists {', '.join(missing)}, which "
                "is missing; copy the model again, whole"
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise InputError(
            f"{place}: has no weights (*.safetensors or pytorch_model.bin); "
            "copy the model again, whole, or name another folder"
        )
    return files


def describe_tokenizer(config: RunConfig, tokenizer: Any) -> dict[str, str]:
    """Facts about a model's tokenizer and the template that goes with it.

    Args:
        config: Names the model.
        tokenizer: The model's own.

    Raises:
        InputError: It makes tokens that the model does not know.
    """
    model = load_model_config(config.model.path, config.model.trust_remote_code)
    highest = max(tokenizer.get_vocab().values())
    if highest >= model.vocab_size:
        raise InputError(
            f"model.path = {config.model.path!r}: the tokenizer makes token {highest}, but the "
            f"model's vocab_size is {model.vocab_size}; the tokenizer belongs to another model, or "
            "tokens were added without resizing the embeddings"
        )
    return {
        "tokenizer": f"{type(tokenizer).__name__}, {len(tokenizer)} tokens, EOS "
        f"{tokenizer.eos_token!r} ({tokenizer.eos_token_id}); vocabulary {model.vocab_size}",
        "template": "; ".join(_templates(config, tokenizer)),
    }


def _templates(config: RunConfig, tokenizer: Any) -> Iterator[str]:
    """The template of `data`, those that sources name, and what of them is no token."""
    sources = (*config.data.sources, *config.eval.sources)
    own = {source.template: source for source in sources if source.template}
    for name, source in ((config.data.template, None), *own.items()):
        template = choose(config.data, tokenizer, source)
        turns = template.name if name in NAMES else f"{name} ({template.name})"
        users = [each.name for each in sources if each.template == name]
        whose = f" of {', '.join(users)}" if source else ""
        pieces = [tag for tag in template.wording.tags if not _is_token(tag, tokenizer)]
        note = f", {', '.join(pieces)} in pieces: no token of this tokenizer" if pieces else ""
        yield f"{turns}{whose}{note}"


def _is_token(text: str, tokenizer: Any) -> bool:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1

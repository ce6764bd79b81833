"""The model's tokenizer, refused when it would lose text, and its configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.data import hub
from oapl.config import RunConfig
from oapl.errors import InputError, first_line

KNOWN_TEXT = "What is 12 + 7?\nAdd: 12+7=19; so the answer is \\boxed{19}."
"""With `model_type: qwen2` in config.json, transformers replaces a home-made tokenizer by one with
its own way of splitting, and what its vocabulary lacks (spaces!) vanishes without an error."""


def spare_torch() -> None:
    """Let transformers do without torch in this process: tokenizers and configurations need none.

    Loading them takes a third of the time so. Only for a process of our own that runs no model:
    transformers can load none here afterwards, though `import torch` works. Does nothing where
    torch or transformers are there already.
    """
    if "torch" in sys.modules or "transformers" in sys.modules:
        return
    quiet = {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}  # it would tell of models it cannot load
    before = {key: os.environ.get(key) for key in quiet}
    os.environ.update(quiet)
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own sign for: is not there
    try:
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig  # noqa: F401
    finally:
        del sys.modules["torch"]
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a model; padding defaults to EOS.

    Args:
        path: Folder or hub name of the model.
        trust_remote_code: Run tokenizer code that comes with the model.

    Raises:
        InputError: There is none, it has no EOS, or it does not give back what it was given.
    """
    from transformers import AutoTokenizer

    hub.ask_for(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"model.path = {path!r}: no tokenizer can be loaded from it ({first_line(error)}); "
            "save one beside the model with tokenizer.save_pretrained"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model.path = {path!r}: the tokenizer has no EOS token, so no response would ever "
            "end; set eos_token in its tokenizer_config.json"
        )
    _demand_round_trip(tokenizer, path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class ResponseDecoder:
    """Turns token ids into the text that verifiers see and runs store.

    Left out is what ends or pads a response, and nothing else: a tag like `<think>` may be a
    special token, too.

    Args:
        tokenizer: The model's.
        config: Names the model, which may know more tokens that end a response.
    """

    def __init__(self, tokenizer: Any, config: RunConfig) -> None:
        self._tokenizer = tokenizer
        self._unseen = {tokenizer.pad_token_id, *stops_of(tokenizer, config)}

    def __call__(self, responses: Sequence[Sequence[int]]) -> list[str]:
        """Give the texts of several responses.

        Args:
            responses: Token ids [T] of each.
        """
        unseen = self._unseen
        seen = [[token for token in response if token not in unseen] for response in responses]
        return self._tokenizer.batch_decode(
            seen, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def stops_of(tokenizer: Any, config: RunConfig) -> frozenset[int]:
    """Tell at which tokens the engine stops: EOS, and what the model's files say.

    Args:
        tokenizer: The model's.
        config: Names the model.
    """
    ends = _ending_tokens(config.model.path, config.model.trust_remote_code)
    return frozenset({tokenizer.eos_token_id, *ends})


def _ending_tokens(path: str, trust_remote_code: bool) -> list[int]:
    """Those of generation_config.json, else of config.json."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:  # there is none
        ends = getattr(load_model_config(path, trust_remote_code), "eos_token_id", None)
    return [ends] if isinstance(ends, int) else list(ends or ())


def load_model_config(
    path: str, trust_remote_code: bool = False, setting: str = "model.path"
) -> Any:
    """Load the model's `config.json`, the part about text.

    Args:
        path: Folder or hub name of the model.
        trust_remote_code: Run configuration code that comes with the model.
        setting: That names the model; stands in errors.

    Raises:
        InputError: There is none that transformers can read.
    """
    from transformers import AutoConfig

    hub.ask_for(path)
    try:
        found = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"{setting} = {path!r}: {_what_is_there(path)} ({first_line(error)}); give the folder "
            "of a Hugging Face causal language model with config.json, weights and tokenizer, or "
            "the name of one on a hub that can be reached"
        ) from error
    return found.get_text_config()


def _demand_round_trip(tokenizer: Any, path: str) -> None:
    ids = tokenizer(KNOWN_TEXT, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back.strip() != KNOWN_TEXT:  # sentencepiece may put a space in front
        raise InputError(
            f"model.path = {path!r}: the tokenizer ({type(tokenizer).__name__}) loses text: it "
            f"turns {KNOWN_TEXT!r} into {back!r}; model_type in config.json may make transformers "
            "replace it by another class (qwen2 does, llama and qwen3 do not), or its vocabulary "
            "lacks plain letters and digits"
        )


def _what_is_there(path: str) -> str:
    folder = Path(path)
    if not folder.exists():
        return "is no folder, and cannot be fetched from a hub"
    if not (folder / "config.json").is_file():
        return "has no config.json"
    return "has a config.json that transformers cannot read"

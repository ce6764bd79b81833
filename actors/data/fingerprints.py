"""Which tokenizer and which template a stored set was made with, so that another is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from actors.data.templates import CLOCK, Template, choose
from actors.data.templates.wording import AS_IT_IS
from actors.data.tokenizer import KNOWN_TEXT
from oapl.config import RunConfig
from oapl.groups_file import Header, Logprobs, MadeBy
from oapl.weight_files import fingerprint_of

LENGTH = 32
"""Hexadecimal digits of a fingerprint: 128 bits."""


def header_of(
    config: RunConfig, tokenizer: Any, *, made_by: MadeBy, logprobs: Logprobs | None
) -> Header:
    """Say of a set that a run writes what it is.

    Args:
        config: The run.
        tokenizer: The model's.
        made_by: What writes it.
        logprobs: How its log-probs come about; None where it has none.

    Raises:
        InputError: `data.template` does not fit the tokenizer.
    """
    return Header(
        model=config.model.path,
        tokenizer=of_tokenizer(tokenizer),
        template=of_templates(config, tokenizer),
        made_by=made_by,
        logprobs=logprobs,
        weights=fingerprint_of(Path(config.model.path)),
    )


def of_tokenizer(tokenizer: Any) -> str:
    """Tell a tokenizer from one by which the same ids mean another text, or end elsewhere.

    Padding does not count, and neither does where its files lie. A vocabulary that was given
    further tokens is another.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    known = list(tokenizer(KNOWN_TEXT, add_special_tokens=False)["input_ids"])
    return _digest([vocabulary, tokenizer.eos_token_id, known])


def of_templates(config: RunConfig, tokenizer: Any) -> str:
    """Tell a run's templates from others: that of `data`, and those that sources name themselves.

    Raises:
        InputError: One does not fit the tokenizer.
    """
    default = of_template(choose(config.data, tokenizer))
    own = {
        source.name: of_template(choose(config.data, tokenizer, source))
        for source in config.data.sources
        if source.template
    }
    return _digest([default, own]) if own else default


def of_template(template: Template) -> str:
    """Tell a template from one that writes another prompt for the same row.

    The date that a chat template asks for does not count: it changes by itself.
    """
    is_chat = template.name == "chat"
    variables = {key: value for key, value in template.variables.items() if key != CLOCK}
    text = template.tokenizer.chat_template if is_chat else ""
    made = [template.name, text, template.system_prompt, variables]
    if template.wording != AS_IT_IS:
        made.append(dataclasses.asdict(template.wording))
    return _digest(made)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]

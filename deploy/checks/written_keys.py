"""Keys that were written into a recipe: it is copied into the run folder, W&B's config and reports.

Refused without being repeated: what a message says stands in logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from oapl.config import RunConfig

KINDS = {
    "a password in an address": re.compile(r"://[^/@\s:]+:[^/@\s]+@"),
    "a token of the hub": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a header with a key": re.compile(r"\b(Bearer|Basic) [A-Za-z0-9+/=._-]{16,}"),
}


def written_key_rules(config: RunConfig) -> Iterator[str]:
    """Find keys among the settings, a line each.

    Args:
        config: The run's.
    """
    for key, text in _texts(asdict(config), ""):
        for kind, pattern in KINDS.items():
            if pattern.search(text):
                yield (
                    f"{key} holds {kind}, which would stand in config.toml and in reports; put it "
                    "into an environment variable, and name that by api_key_env where it is asked "
                    "for"
                )


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{number}")

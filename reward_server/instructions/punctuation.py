"""Punctuation that is not wanted."""

from __future__ import annotations


def no_comma(text: str) -> bool:
    return "," not in text

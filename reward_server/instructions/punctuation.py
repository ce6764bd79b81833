"""Punctuation that is not wanted."""

from __future__ import annotations


def no_comma(text: str) -> bool:
    """Tell whether the text is without commas."""
    return "," not in text

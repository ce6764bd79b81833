"""How the response begins and ends."""

from __future__ import annotations

from reward_server.instructions.base import Phrase


def end_checker(text: str, *, end_phrase: Phrase) -> bool:
    """Quotation marks after the phrase do not count."""
    return text.strip().strip('"').lower().endswith(end_phrase.lower())


def quotation(text: str) -> bool:
    """The whole stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'

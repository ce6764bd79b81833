"""How the response begins and ends."""

from __future__ import annotations

from reward_server.instructions.base import Phrase


def end_checker(text: str, *, end_phrase: Phrase) -> bool:
    """Tell whether the response ends with a phrase, in any case.

    Args:
        text: The response; quotation marks after the phrase do not count.
        end_phrase: Taken literally.
    """
    return text.strip().strip('"').lower().endswith(end_phrase.lower())


def quotation(text: str) -> bool:
    """Tell whether the whole stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'

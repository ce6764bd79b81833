"""Placeholders and postscripts."""

from __future__ import annotations

import re

from reward_server.instructions.base import Count, Phrase, bordered

_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}


def number_placeholders(text: str, *, num_placeholders: Count) -> bool:
    """Tell whether there are at least so many `[...]`, each in one line; the first `]` closes.

    Args:
        text: The response; the time taken is linear in it.
        num_placeholders: The fewest.
    """
    return sum(map(_placeholders, text.split("\n"))) >= num_placeholders


def postscript(text: str, *, postscript_marker: Phrase) -> bool:
    """Tell whether there is a postscript, anywhere and in any case.

    Args:
        text: The response.
        postscript_marker: How it begins; `P.S.` and `P.P.S` may have spaces within, and any other
            is a word of its own.
    """
    pattern = _POSTSCRIPTS.get(postscript_marker, bordered(postscript_marker.lower()))
    return bool(re.search(pattern, text.lower()))


def _placeholders(line: str) -> int:
    count, end = 0, -1
    while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
        count += 1
    return count

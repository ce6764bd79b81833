"""Lists, highlights, sections, titles, JSON. Every pattern here is linear in the text."""

from __future__ import annotations

import json
import re

from reward_server.instructions.base import Count, Phrase

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

_STAR = re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE)
_DASH = re.compile(r"^[^\S\n]*-.*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*([^\n*]*)\*")
_DOUBLE = re.compile(r"\*\*([^\n*]*)\*\*")
_FENCES = ("```json", "```Json", "```JSON", "```")


def number_bullet_lists(text: str, *, num_bullets: Count) -> bool:
    """Tell whether exactly so many lines begin with `*` (not `**`) or `-`.

    Args:
        text: The response.
        num_bullets: The number of lines.
    """
    return len(_STAR.findall(text)) + len(_DASH.findall(text)) == num_bullets


def constrained_response(text: str) -> bool:
    """Tell whether one of the three sentences occurs."""
    return any(sentence in text for sentence in CONSTRAINED)


def number_highlighted_sections(text: str, *, num_highlights: Count) -> bool:
    """Tell whether there are at least so many `*...*` and `**...**`, not empty, each within a line.

    Args:
        text: The response.
        num_highlights: The fewest.
    """
    found = _HIGHLIGHT.findall(text) + _DOUBLE.findall(text)
    return sum(1 for content in found if content.strip()) >= num_highlights


def multiple_sections(text: str, *, section_spliter: Phrase, num_sections: Count) -> bool:
    """Tell whether there are at least so many numbered headings, such as `SECTION 1`.

    Args:
        text: The response.
        section_spliter: The word before the number (the published set spells the option so).
        num_sections: The fewest.
    """
    headings = re.findall(rf"{re.escape(section_spliter)}\s?\d+", text)
    return len(headings) >= num_sections


def json_format(text: str) -> bool:
    """Tell whether the whole is JSON, fenced or not; too deep to be read is not (theirs fails)."""
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """Tell whether a line has `<<...>>`, not empty."""
    return any(map(_has_title, text.split("\n")))


def _has_title(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start <= end - 3 and bool(line[start : end + 2].lstrip("<").rstrip(">").strip())

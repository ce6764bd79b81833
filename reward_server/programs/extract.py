"""The program in a response: its last fenced block, in one pass over the lines."""

from __future__ import annotations

import re

# Possessive throughout: a line of a megabyte must not be tried in a million ways.
_FENCE = re.compile(r"([ \t]*+)(`{3,}+|~{3,}+)[ \t]*+([^\s`]*+)[^`]*+")
PYTHON = ("python", "python3", "py", "py3", "python2", "pypy", "pypy3", "{python}", "{.python}")


def program(text: str) -> str | None:
    """Find the last block marked as Python, else the last with no mark; None where there is none.

    Blocks marked otherwise (an example's output, another language) are no answer, and neither is a
    block that was never closed.
    """
    found: dict[bool, str] = {}
    fence, indent, is_marked, lines = "", "", None, list[str]()
    for line in text.splitlines():
        match = _FENCE.fullmatch(line)
        if not fence:
            if match:
                indent, fence, language = match.groups()
                is_marked = _is_marked(language)
                lines = []
        elif match and match[2].startswith(fence) and not match[3]:
            if is_marked is not None:
                found[is_marked] = "\n".join(lines) + "\n"
            fence = ""
        else:
            lines.append(line.removeprefix(indent))
    return found.get(True) or found.get(False)


def _is_marked(language: str) -> bool | None:
    """True for Python, False for no mark at all, None for another language."""
    if not language:
        return False
    return True if language.lower() in PYTHON else None

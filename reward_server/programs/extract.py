"""The program in a response: its last fenced block, in one pass over the lines.

Markdown's rules, and what models write besides: a fence that closes on the last line of code
(`x = 1` and three backticks), one that opens behind a list's mark, a quote's or a sentence, and a
block of Python that begins anew before the first was closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Possessive throughout: a line of a megabyte must not be tried in a million ways.
_FENCE = re.compile(
    r"((?:[ \t]*+(?:>|[-*+](?=[ \t])|[0-9]{1,9}+[.)](?=[ \t])))*+[ \t]*+)"
    r"(`{3,}+|~{3,}+)[ \t]*+([^`]*+)"
)
_BEHIND_A_SENTENCE = re.compile(r"(?<![`~])(`{3,}+|~{3,}+)[ \t]*+([\w{.][^`~]*+)")
_QUOTED = re.compile(r"[ \t]*+>[ \t]?")
_LANGUAGE = re.compile(r"[{.\s]*+([\w+#-]*+(?:\.[\w+#-]++)*+)")
_PYTHON = re.compile(r"i?(?:python|pypy|py)-?[0-9.]*|[\w-]+\.py")
_ENDS_CODE = re.compile(r"[\w)\]}\"']\s*+\Z")
MAX_QUOTES = 8  # one in another


@dataclass(frozen=True, slots=True)
class _Fence:
    """What opened a block.

    Attributes:
        mark: Its backticks or tildes.
        is_marked: True for Python, False for no mark at all, None for another language.
        depth: In how many quotes it stands.
    """

    mark: str
    is_marked: bool | None
    depth: int = 0


def program(text: str) -> str | None:
    """Find the last block marked as Python, else the last with no mark; None where there is none.

    Blocks marked otherwise (an example's output, another language) are no answer, and neither is a
    block that was never closed.
    """
    found = {fence.is_marked: lines for fence, lines in _blocks(text.splitlines())}
    lines = found.get(True, found.get(False))
    return None if lines is None else "\n".join(_outdented(lines)) + "\n"


def _blocks(lines: Sequence[str]) -> Iterator[tuple[_Fence, list[str]]]:
    """Blocks that are closed, each with its lines."""
    fence, inside = None, list[str]()
    for line in lines:
        if fence is None:
            fence, inside = _opened(line), []
            continue
        line = _unquoted(line, fence.depth)
        match = _FENCE.fullmatch(line)
        if match and match[2].startswith(fence.mark) and not match[1].strip():
            if not match[3].strip():
                yield fence, inside
                fence = None
                continue
            if _is_marked(match[3]):
                fence, inside = _Fence(match[2], True, fence.depth), []
                continue
        elif (code := _closed_by(line, fence.mark)) is not None:
            yield fence, [*inside, code]
            fence = None
            continue
        inside.append(line)


def _opened(line: str) -> _Fence | None:
    match = _FENCE.fullmatch(line)
    if match:
        return _Fence(match[2], _is_marked(match[3]), min(match[1].count(">"), MAX_QUOTES))
    match = _BEHIND_A_SENTENCE.search(line)
    if match and match.end() == len(line) and _is_marked(match[2]):
        return _Fence(match[1], True)
    return None


def _is_marked(info: str) -> bool | None:
    """What the text behind a fence says: `python`, `{.python .numberLines}`, `py title="a.py"`."""
    match = _LANGUAGE.match(info.lower())
    language = match[1] if match else ""
    if not language:
        return None if info.strip() else False
    return True if _PYTHON.fullmatch(language) else None


def _closed_by(line: str, mark: str) -> str | None:
    """The code before a fence at the end of a line; None where it ends in none.

    A comment with a fence, and text that has another one before, close nothing.
    """
    code = line.rstrip().rstrip(mark[0])
    is_closed = len(line.rstrip()) - len(code) >= len(mark)
    if not is_closed or mark in code or code.lstrip().startswith("#"):
        return None
    return code if _ENDS_CODE.search(code[-200:]) else None


def _outdented(lines: Sequence[str]) -> Iterator[str]:
    """The lines without the margin of the first one that is code: a block may stand in a list."""
    codes = (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    first = next(codes, "")
    margin = len(first) - len(first.lstrip())
    for line in lines:
        blanks = len(line) - len(line.lstrip())
        yield line[min(blanks, margin) :]


def _unquoted(line: str, depth: int) -> str:
    for _ in range(depth):
        match = _QUOTED.match(line)
        line = line[match.end() :] if match else line
    return line

"""Blocks of a response: what stands between `<think>` and `</think>`, or the like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

THINK = "think"


def opens_thinking(prompt: str) -> bool:
    """Whether a prompt's text itself ended with `<think>`."""
    return prompt.rstrip().endswith(f"<{THINK}>")


def blocks(text: str, names: Sequence[str]) -> list[str]:
    """Name the blocks that are not empty, in order; tags alone fill none.

    Args:
        text: The response, `<think>` in front where the prompt ended with it.
        names: Of the blocks that are looked for: what stands in one is no block of a later name.
    """
    found, any_tag = list[tuple[int, str]](), tag("|".join(names))
    for name in names:
        spans = list(_spans(text, name))
        found += [(start, name) for start, end in spans if any_tag.sub("", text[start:end]).strip()]
        text = _blanked(text, spans)
    return [name for _, name in sorted(found)]


def tag(names: str) -> re.Pattern[str]:
    """Match an opening or closing tag of these names, `think|answer`."""
    return re.compile(f"<(/?)(?:{names})>")


def _spans(text: str, name: str) -> Iterator[tuple[int, int]]:
    """What stands between an opening tag and the next closing one of its kind.

    A thought begins at the first opening tag before that, an answer at the last: a mention of
    `<answer>` in front of it is none.
    """
    start = None
    for found in tag(name).finditer(text):
        if not found[1]:
            start = found.end() if start is None or name == "answer" else start
        elif start is not None:
            yield start, found.start()
            start = None


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    pieces, after = list[str](), 0
    for start, end in spans:
        pieces += text[after:start], " " * (end - start)
        after = end
    return "".join([*pieces, text[after:]])

"""What a judge may be shown of a response, and the verdict in what it replies."""

from __future__ import annotations

import re
import unicodedata

from reward_server.verifiers import base

_MARK = re.compile(r"\[/?(?:QUESTION|REFERENCE|CANDIDATE)\]\Z")
LONGEST_MARK = len("[/CANDIDATE]")
_MENTION = re.compile(r"([`'\"])</?think>\1")
_LATEX_TEXT = re.compile(r"\\(?:text|math)[a-z]*")
_DRESS = dict.fromkeys(map(ord, "\"'`*_~$#[]()<>“”„‘’‚«»‹›「」『』【】〖〗〔〕〈〉《》"), " ")
_WORD = r"(correct|incorrect|not\s+correct)\b(?!\s*(?:\?|(?:/|\||or\b)\s*(?:in)?correct\b))"
_VERDICTS = [  # the last of the first kind that a reply has counts
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"VERDICT\s*(?:is\s*)?[:=\u2013\u2014-][^\w\\]*(?:\\boxed[\s{{]*)?{_WORD}",
        rf"(?:\A|\n)[^\w\n]*{_WORD}[\s.!}}]*\Z",
        r"\\boxed\s*\{[\s{]*(correct|yes|true|incorrect|no|false)[\s.!]*\}",
    )
]
_RIGHT = ("correct", "yes", "true")


def without_marks(response: str) -> str:
    """Take out the marks between which a response is shown, and those that this leaves behind."""
    kept = list[str]()
    for character in response:
        kept.append(character)
        if character == "]" and (mark := _MARK.search("".join(kept[-LONGEST_MARK:]))):
            del kept[-len(mark[0]) :]
    return "".join(kept)


def verdict_in(reply: str) -> bool | None:
    """Read what a reply says after its own thinking; None when it says neither, or thinks still.

    Quotes, brackets, stars, LaTeX and full-width letters around a verdict do not matter.
    """
    text = base.after_thinking(_MENTION.sub("", reply))
    if text is None:
        return None
    plain = _LATEX_TEXT.sub("", unicodedata.normalize("NFKC", text)).translate(_DRESS)
    for kind in _VERDICTS:
        if found := kind.findall(plain):
            return found[-1].lower() in _RIGHT
    return None

"""Why two judges of one text say different things of it."""

from __future__ import annotations

from collections.abc import Sequence

NO_BOX = "no box: the filter takes the last number of the text"
OTHER = "the last number of the text is not what stands in the box"
LETTERS = "the same number, written otherwise: the metric compares letters"
UNKNOWN = "unknown"


def until(text: str, stops: Sequence[str]) -> str:
    """Cut a text before the first stop word."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))]


def cause(boxed: str | None, is_right: bool, number: str, *, reads_right: bool) -> str:
    """Explain a difference.

    Args:
        boxed: What our verifier read; None where it found nothing.
        is_right: What it said; the filter said the opposite.
        number: What the filter read.
        reads_right: Our verifier would call that the right answer.
    """
    if boxed is None:
        return UNKNOWN if is_right else NO_BOX
    if is_right and reads_right:
        return LETTERS
    return OTHER if is_right != reads_right and boxed != number else UNKNOWN

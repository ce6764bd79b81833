"""The language of the whole response."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from reward_server.instructions import _linguistics


def _known(code: str) -> str:
    if code not in _linguistics.languages():
        raise ValueError(f"no language code; there are {', '.join(_linguistics.languages())}")
    return code


def response_language(text: str, *, language: Annotated[str, AfterValidator(_known)]) -> bool:
    """Tell whether the response is in a language.

    Args:
        text: The response; one of which no language can be told counts as followed, as in the
            original.
        language: The code that langdetect has for it.
    """
    return _linguistics.language(text) in (language, None)

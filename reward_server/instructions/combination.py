"""Two answers in one, or the question before the answer."""

from __future__ import annotations

from reward_server.instructions.base import Phrase


def two_responses(text: str) -> bool:
    """Tell whether two different responses stand between `******`; an empty one may stand first
    and last only.
    """
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def repeat_prompt(text: str, *, prompt_to_repeat: Phrase) -> bool:
    """Tell whether the response begins with the question, in any case.

    Args:
        text: The response.
        prompt_to_repeat: The question.
    """
    return text.strip().lower().startswith(prompt_to_repeat.lower())

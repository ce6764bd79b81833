"""What a paper puts around a question: one small TOML file per template, in this folder.

    system = "..."                 system message; without it there is none
    user = "{question} ..."        the user's message
    turns = "..."                  the whole text with {system} and {user}; "plain": the user's
                                   message alone; "auto", the default: the tokenizer's chat template
    [columns]
    starter_code = "{starter_code}"  what stands for {starter_code} in `user`, where a row has one

Braces are filled once: what a question has in braces of its own stays as it is. A file's comment
gives the paper and section, and says what had to be read into it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from actors.data.problems import Problem
from oapl.config.fields import section
from oapl.config.recipes import read_toml
from oapl.errors import InputError

FOLDER = Path(__file__).parent
TURNS = ("auto", "plain")
"""Values of `turns` that are no text."""
_PLACE = re.compile(r"\{(\w+)\}")
_TAG = re.compile(r"<[|｜][^<>\s]+[|｜]>")


@section
class Wording:
    """A template's file."""

    system: str = ""
    """System message; empty for none."""
    user: str = "{question}"
    """The user's message, with the question in it."""
    turns: str = "auto"
    """The whole text, or `auto` or `plain`."""
    columns: dict[str, str] = field(default_factory=dict)
    """By column of the row the text that stands for it in `user`, where the row has the column."""

    @property
    def is_written(self) -> bool:
        """Whether it writes the turns itself."""
        return self.turns not in TURNS

    @property
    def tags(self) -> list[str]:
        """What it writes that should be one token each, like `<|im_start|>`."""
        return list(dict.fromkeys(_TAG.findall(self.turns))) if self.is_written else []

    def asked(self, problem: Problem) -> Problem:
        """The problem with the user's whole message for a question."""
        parts = {"question": problem.question}
        for column, text in self.columns.items():
            value = problem.reference.get(column)
            has_one = isinstance(value, str) and bool(value.strip())
            parts[column] = _filled(text, {column: str(value)}) if has_one else ""
        return problem.with_question(_filled(self.user, parts))

    def written(self, user: str) -> str:
        """The whole text around the user's message."""
        return _filled(self.turns, {"system": self.system, "user": user})


AS_IT_IS = Wording()
"""Puts nothing around a question."""


def names() -> list[str]:
    """The templates there are as files."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, setting: str, others: tuple[str, ...] = ()) -> Wording:
    """Read a template's file.

    Args:
        name: Of the file, without `.toml`.
        setting: The setting that names it, for the error.
        others: Names that the setting may have beside those of files.

    Raises:
        InputError: There is none of that name.
    """
    if name not in names():
        known = (*others, *names())
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"{setting} = {name!r}: {hint}must be one of {', '.join(known)}; auto takes the "
            "tokenizer's chat template where it has one"
        )
    return Wording(**read_toml(FOLDER / f"{name}.toml"))


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with its braces filled, in one pass; braces with another name stay."""
    return _PLACE.sub(lambda found: parts.get(found[1], found[0]), text)

"""Traces become tokens: the prompt as a run writes it, the response directly behind it.

Invariant: what is stored says what was logged. A response is given back by the tokenizer just as it
was; of an assistant's message the template has written every word, and none of its own before it.
What the template leaves of a message is looked up in the text that it makes of prompt and answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from actors.data.endings import Endings
from actors.data.problems import Problem
from actors.data.templates import choose
from actors.data.tokenizer import ResponseDecoder
from deploy.importing.columns import Refused
from deploy.importing.traces import Trace
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.records import Rollout
from oapl.replay.stored import OF_ANOTHER

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys under which a message has what the assistant thought before its content."""
OPEN_TAG = re.compile(r"<\w+>\s*$")
AROUND = 20
"""Characters shown of a text that was changed."""
AS_SAMPLED = (
    "give the trace as prompt and response, the response as text just as it was sampled, or set "
    "data.template_options so that the template writes it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt as the model sees it.

    Attributes:
        text: Template applied.
        token_ids: int32 [T].
    """

    text: str
    token_ids: np.ndarray


class Renderer:
    """Makes tokens of traces.

    Args:
        config: Names the model, and says how prompts are written.
        tokenizer: The model's.
        room: Most tokens of a prompt with its response.
        version: Whose the responses are: `OF_ANOTHER`, or `OF_THE_MODEL`.

    Raises:
        InputError: `data.template` does not fit the tokenizer.
    """

    def __init__(
        self, config: RunConfig, tokenizer: Any, room: int, version: int = OF_ANOTHER
    ) -> None:
        self.version = version
        self._template = choose(config.data, tokenizer)
        self._tokenizer = tokenizer
        self._endings = Endings(self._template, config)
        self._decode = ResponseDecoder(tokenizer, config)
        self._room = room

    def prompt(self, problem: Problem) -> Asked:
        """Write a prompt.

        Raises:
            Refused: The template has no place for it, or the tokenizer loses some of it.
        """
        try:
            text = self._template.render(problem)
        except InputError as error:
            raise Refused("template", str(error)) from error
        (ids,) = self._template.encode([text])
        back = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if not back.strip().endswith(text.strip()):  # a tokenizer may put BOS or a space in front
            raise _lost(problem.place, "prompt", text, back)
        return Asked(text=text, token_ids=np.asarray(ids, np.int32))

    def rollout(self, asked: Asked, trace: Trace) -> Rollout:
        """Write a response.

        Args:
            asked: The prompt of its group.
            trace: With the response.

        Raises:
            Refused: The template changes it, the tokenizer loses some of it, or it is too long.
        """
        place, text = trace.problem.place, self._response(asked, trace)
        (ids,) = self._template.encode_response([text])
        at = self._endings.place_of_end(ids)
        ended = trace.ended or at is not None
        if at is not None:
            text = text.partition(self._endings.text_of(ids[at]))[0]
        ids = self._closed(place, ids) if ended else ids
        (back,) = self._decode([ids])
        if back.removeprefix(" ") != text.removeprefix(" "):  # sentencepiece puts one in front
            raise _lost(place, "response", text, back)
        length = len(asked.token_ids) + len(ids)
        if length > self._room:
            raise Refused(
                "length",
                f"{place}: has {length} tokens with its prompt, and the model reads {self._room}; "
                "leave the line out, or raise rollout.context_tokens where the model allows it",
            )
        return Rollout(
            token_ids=np.asarray(ids, np.int32),
            inference_logprobs=None,
            finish_reason="stop" if ended else "length",
            text=back,
            first_version=self.version,
            last_version=self.version,
        )

    def _closed(self, place: str, ids: list[int]) -> list[int]:
        try:
            return self._endings.closed(ids)
        except ValueError as error:
            raise Refused("end", f"{place}: the response {error}") from error

    def _response(self, asked: Asked, trace: Trace) -> str:
        """The text that follows the prompt."""
        if not isinstance(trace.response, str):
            return self._written(asked, trace)
        tag = OPEN_TAG.search(asked.text) if self._template.name == "chat" else None
        if tag and trace.response.lstrip().startswith(tag.group().strip()):
            raise Refused(
                "template",
                f"{trace.problem.place}: the response begins with {tag.group().strip()}, with "
                "which the template ends the prompt already; take it out of the response",
            )
        return trace.response

    def _written(self, asked: Asked, trace: Trace) -> str:
        """What the template makes of the assistant's message, up to the end of its content."""
        place, message = trace.problem.place, trace.response
        assert not isinstance(message, str), "text is not written by the template"
        if self._template.name == "plain":
            raise Refused(
                "template",
                f"{place}: the response is a chat message, which the plain template cannot write; "
                "give it as text",
            )
        try:
            whole = self._template.render_answered(trace.problem, message)
        except InputError as error:
            raise Refused("template", str(error)) from error
        if not whole.startswith(asked.text):
            raise Refused(
                "template",
                f"{place}: the tokenizer's chat template writes a prompt otherwise where an answer "
                f"follows ({_difference(asked.text, whole)}); {AS_SAMPLED}",
            )
        return _said(asked.text, whole, message, place)


def _said(prompt: str, whole: str, message: Any, place: str) -> str:
    thoughts = [str(message[key]).strip() for key in THOUGHTS if message.get(key)]
    content = str(message["content"])
    end = len(prompt)
    for text in (*thoughts, content.strip()):
        start = whole.find(text, end)
        if start < 0 and not thoughts:  # the prompt may end with what the content begins with
            start = whole.find(text, max(0, end - len(text) + 1))
        if start < 0:
            raise Refused(
                "template",
                f"{place}: the tokenizer's chat template leaves out or changes what the assistant "
                f"said ({_shown(text)} becomes {_shown(whole[len(prompt) :])}); {AS_SAMPLED}",
            )
        end = start + len(text)
    before = whole[len(prompt) : start]
    if before.strip() and not thoughts:
        raise Refused(
            "template",
            f"{place}: the tokenizer's chat template puts {before!r} before what the assistant "
            f"said; {AS_SAMPLED}",
        )
    return before + content if start >= len(prompt) else content.lstrip()[len(prompt) - start :]


def _lost(place: str, what: str, text: str, back: str) -> Refused:
    return Refused(
        "tokenizer",
        f"{place}: the tokenizer does not give back the {what} ({_difference(text, back)}); leave "
        "the line out, take special tokens out of its text, or use a tokenizer that knows it",
    )


def _difference(text: str, other: str) -> str:
    """Where two texts part."""
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    )
    begin = max(0, same - AROUND // 2)
    ours, theirs = (each[begin : begin + AROUND] for each in (text, other))
    return f"from character {begin}: {ours!r} becomes {theirs!r}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 2 * AROUND else text[: 2 * AROUND] + "...")

"""How a problem becomes the text that the model continues: the same in SFT, RL and evaluation.

`chat` is the tokenizer's own chat template, `plain` the text as it is; `auto` takes the first where
the tokenizer has one. A response follows the prompt directly, so that what is imitated stands where
what is sampled will stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from actors.data.sources import Messages, Problem
from oapl.config.sections import DataSection
from oapl.errors import InputError

NAMES = ("auto", "chat", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A way to write prompts.

    Attributes:
        name: `chat` or `plain`.
        tokenizer: Whose chat template it is, and who makes tokens of the text.
        system_prompt: System message put first, empty for none.
    """

    name: str
    tokenizer: Any
    system_prompt: str = ""

    def render(self, problem: Problem) -> str:
        """Write the problem's prompt as the model sees it.

        Raises:
            InputError: The template has no place for what the problem holds.
        """
        if self.name == "chat":
            return self._chat(problem)
        if not isinstance(problem.prompt, str):
            raise InputError(
                f"{problem.place}: the prompt is a list of chat messages, which the plain template "
                'cannot write; set data.template = "chat" with a tokenizer that has a chat '
                "template, or give the prompt as text"
            )
        return problem.prompt

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Give token ids per rendered text; a chat template has written special tokens itself."""
        if not texts:
            return []
        is_plain = self.name == "plain"
        # Longer than the model is no surprise here: the caller deals with length.
        made = self.tokenizer(list(texts), add_special_tokens=is_plain, verbose=False)["input_ids"]
        eos = self.tokenizer.eos_token_id
        # Some tokenizers close a text with EOS; what follows a prompt is the response.
        return [ids[:-1] if is_plain and len(ids) > 1 and ids[-1] == eos else ids for ids in made]

    def encode_response(self, texts: Sequence[str]) -> list[list[int]]:
        """Give token ids of responses, EOS appended: what the model should have sampled."""
        if not texts:
            return []
        eos = self.tokenizer.eos_token_id
        made = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in made]

    def _chat(self, problem: Problem) -> str:
        messages = self._messages(problem)
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            )
        except jinja2.TemplateError as error:
            raise InputError(
                f"{problem.place}: the tokenizer's chat template refuses the messages with roles "
                f"{[m['role'] for m in messages]} ({error}); change the roles, or leave "
                "data.system_prompt out"
            ) from error

    def _messages(self, problem: Problem) -> list[Any]:
        is_text = isinstance(problem.prompt, str)
        messages: Messages = (
            ({"role": "user", "content": problem.prompt},) if is_text else problem.prompt  # type: ignore[assignment]
        )
        if not self.system_prompt:
            return list(messages)
        if messages[0]["role"] == "system":
            raise InputError(
                f"{problem.place}: the prompt has a system message of its own, and "
                f"data.system_prompt = {self.system_prompt!r} would be a second; leave one out"
            )
        return [{"role": "system", "content": self.system_prompt}, *messages]


def choose(data: DataSection, tokenizer: Any) -> Template:
    """Choose the template that `data.template` means with this tokenizer.

    Args:
        data: The section.
        tokenizer: The model's; `auto` looks whether it has a chat template.

    Raises:
        InputError: An unknown name, `chat` without a chat template, or a system prompt that the
            plain template has no place for.
    """
    if data.template not in NAMES:
        raise InputError(
            f"data.template = {data.template!r}: must be one of {', '.join(NAMES)}; auto takes the "
            "tokenizer's chat template where it has one"
        )
    has_chat = bool(tokenizer.chat_template)
    if data.template == "chat" and not has_chat:
        raise InputError(
            'data.template = "chat": the tokenizer has no chat template; set data.template = '
            '"plain", or use a tokenizer with one'
        )
    name = "chat" if has_chat and data.template != "plain" else "plain"
    if name == "plain" and data.system_prompt:
        raise InputError(
            f"data.system_prompt = {data.system_prompt!r}: the plain template has no place for it; "
            "leave it out, or use a tokenizer with a chat template"
        )
    return Template(name=name, tokenizer=tokenizer, system_prompt=data.system_prompt)

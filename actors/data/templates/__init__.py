"""How a problem becomes the text that the model continues: the same in SFT, RL and evaluation.

`chat` is the tokenizer's own chat template, `plain` the text as it is; `auto` takes the first where
the tokenizer has one. Any other name is a file of this folder (`wording`): what a paper puts around
a question, in the tokenizer's turns or in turns that the file writes. A response follows the prompt
directly, so that what is imitated stands where what is sampled will stand. A text depends on the
row and on `data` alone: the date that a template asks for is `data.date`. What a template leaves
out without a word is refused.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from actors.data.messages import tool_name
from actors.data.problems import Problem
from actors.data.templates.wording import AS_IT_IS, Wording, load
from oapl.config.messages import shown
from oapl.config.sections import DataSection, DataSource
from oapl.errors import InputError, first_line

NAMES = ("auto", "chat", "plain")
CLOCK = "strftime_now"
"""The function by which chat templates ask for today's date."""
DEFAULT = "default"
"""Of several named chat templates the one that is used, but for rows with tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A way to write prompts.

    Attributes:
        name: How the turns are written: `chat`, `plain`, or `written` by the wording.
        tokenizer: Whose chat template it is, and who makes tokens of the text.
        system_prompt: System message put first, empty for none.
        variables: What the chat template is given beside messages and tools.
        wording: What is put around the question.
    """

    name: str
    tokenizer: Any
    system_prompt: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    wording: Wording = AS_IT_IS

    def render(self, problem: Problem) -> str:
        """Write the problem's prompt as the model sees it.

        Raises:
            InputError: The template has no place for what the problem holds.
        """
        problem = self.wording.asked(problem)
        if self.name == "chat":
            return self._chat(problem, self._messages(problem), is_prompt=True)
        held = "has tools" if problem.tools else "is a list of chat messages"
        if problem.tools or not isinstance(problem.prompt, str):
            raise InputError(
                f"{problem.place}: the prompt {held}, which the {self.name} template cannot write; "
                'set data.template = "chat" with a tokenizer that has a chat template, or give the '
                "prompt as text alone"
            )
        return self.wording.written(problem.prompt) if self.name == "written" else problem.prompt

    def render_answered(self, problem: Problem, answer: Mapping[str, Any]) -> str:
        """Write the problem's messages with the assistant's after them, as `chat` does.

        Args:
            problem: Its prompt comes first.
            answer: The assistant's message.

        Raises:
            InputError: The template has no place for what they hold.
        """
        return self._chat(problem, [*self._messages(problem), answer], is_prompt=False)

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
        """Give token ids of responses as they stand; `endings` says how they end."""
        if not texts:
            return []
        made: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, verbose=False
        )["input_ids"]
        return made

    def _chat(self, problem: Problem, messages: Sequence[Any], *, is_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(problem.tools) or None,
                tokenize=False,
                add_generation_prompt=is_prompt,
                **self.variables,
            )
        except Exception as error:  # a template is a program of somebody else's
            raise InputError(
                f"{problem.place}: the tokenizer's chat template refuses the messages with roles "
                f"{[m['role'] for m in messages]} ({first_line(error)}); change the roles, leave "
                "data.system_prompt out, or mend the template"
            ) from error
        seen: Counter[str] = Counter()
        for words, what in _demanded(messages, problem.tools):
            seen[words] += 1
            if text.count(words) < seen[words]:
                raise InputError(
                    f"{problem.place}: the tokenizer's chat template leaves out {what}; use a "
                    "template that writes it, or leave it out of the row"
                )
        return str(text)

    @property
    def _system_from(self) -> str:
        return "the template's system" if self.wording.system else "data.system_prompt"

    def _messages(self, problem: Problem) -> list[Any]:
        is_text = isinstance(problem.prompt, str)
        messages: Sequence[Mapping[str, Any]] = (
            ({"role": "user", "content": problem.prompt},) if is_text else problem.prompt  # type: ignore[assignment]
        )
        if not self.system_prompt:
            return list(messages)
        if messages[0]["role"] == "system":
            raise InputError(
                f"{problem.place}: the prompt has a system message of its own, and "
                f"{self._system_from} = {self.system_prompt!r} would be a second; leave one out"
            )
        return [{"role": "system", "content": self.system_prompt}, *messages]


def choose(data: DataSection, tokenizer: Any, source: DataSource | None = None) -> Template:
    """Choose the template that `data.template`, or a source's own, means with this tokenizer.

    Args:
        data: The section.
        tokenizer: The model's; `auto` looks whether it has a chat template.
        source: Whose problems are written; its own template comes first.

    Raises:
        InputError: An unknown name, `chat` without a chat template, a setting that the template has
            no place for, or a text that the tokenizer would lose.
    """
    name, setting = data.template, "data.template"
    if source is not None and source.template:
        name, setting = source.template, f"template of source {source.name!r}"
    wording = AS_IT_IS if name in NAMES else load(name, setting, NAMES)
    turns = name if name in NAMES else wording.turns
    has_chat = bool(tokenizer.chat_template)
    if turns == "chat" and not has_chat:
        raise InputError(
            f'{setting} = "chat": the tokenizer has no chat template; set {setting} = '
            '"plain", or use a tokenizer with one'
        )
    if name not in NAMES and data.system_prompt:
        raise InputError(
            f"data.system_prompt = {data.system_prompt!r}: {setting} = {name!r} says itself what "
            "the system message is; leave one of them out"
        )
    if turns in ("auto", "chat") and has_chat:
        return _chat(data, tokenizer, wording)
    kind = "written" if wording.is_written else "plain"
    for key, value, where in (
        ("data.system_prompt", data.system_prompt, "leave it out, or "),
        ("data.template_options", data.template_options, "leave it out, or "),
        (f"the system message of template {name!r}", not wording.is_written and wording.system, ""),
    ):
        if value:
            raise InputError(
                f"{key} = {value!r}: the {kind} template has no place for it; {where}use a "
                "tokenizer with a chat template"
            )
    if wording.is_written:
        _demand_text(wording, tokenizer, f"{setting} = {name!r}")
    return Template(name=kind, tokenizer=tokenizer, wording=wording)


def _demand_text(wording: Wording, tokenizer: Any, setting: str) -> None:
    """Refuse turns of which the tokenizer loses something: unknown characters vanish unsaid."""
    text = wording.written("")
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if "".join(back.split()) != "".join(text.split()):  # some put blanks beside special tokens
        raise InputError(
            f"{setting}: the tokenizer loses text of it: it turns {text!r} into {back!r}; use a "
            "template that the model knows"
        )


def _chat(data: DataSection, tokenizer: Any, wording: Wording) -> Template:
    """The tokenizer's own chat template."""
    text = _template_text(tokenizer)
    _check_options(data.template_options, text, tokenizer)
    variables = dict(data.template_options)
    if CLOCK in text:
        now = datetime.fromisoformat(data.date) if data.date else datetime.now()
        variables[CLOCK] = now.strftime
    return Template(
        name="chat",
        tokenizer=tokenizer,
        system_prompt=wording.system or data.system_prompt,
        variables=variables,
        wording=wording,
    )


def _template_text(tokenizer: Any) -> str:
    """The chat template, of several named ones all: which one it is depends on the row."""
    found = tokenizer.chat_template
    if not isinstance(found, Mapping):
        return str(found)
    if DEFAULT not in found:
        raise InputError(
            f"the tokenizer has chat templates called {', '.join(sorted(found))}, but none called "
            f'{DEFAULT!r}; give one of them that name, or set data.template = "plain"'
        )
    return "\n".join(map(str, found.values()))


def _check_options(options: Mapping[str, Any], text: str, tokenizer: Any) -> None:
    """Refuse what the template is given anyway, and what it never asks for."""
    if not options:
        return
    given = {"messages", CLOCK, *inspect.signature(tokenizer.apply_chat_template).parameters}
    words = set(re.findall(r"[A-Za-z_]\w*", text)) - given
    for name, value in options.items():
        key = f"data.template_options.{name} = {shown(value)}"
        if name in given:
            raise InputError(f"{key}: {name} comes from the data and its settings; leave it out")
        if name not in words:
            near = difflib.get_close_matches(name, words, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{key}: the tokenizer's chat template never asks for it; {hint}leave it out, or "
                "use a template with that variable"
            )


def _demanded(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Words that a text must have to say what a row says, and what they are of. Of an assistant's
    turn only its calls: templates leave out what it once thought."""
    for tool in tools:
        yield tool_name(tool), f"the tool {tool_name(tool)!r}"
    for number, message in enumerate(messages, 1):
        for call in message.get("tool_calls", ()):
            yield tool_name(call), f"tool_calls of message {number} ({tool_name(call)!r})"
        if message["role"] not in ("assistant", "tool"):
            role = f"message {number} (role {message['role']!r})"
            yield str(message["content"]).strip(), f"the text of {role}"

r"""What a verifier file offers, and how an answer is found in a response.

A file `verifiers/x.py` has its options, `Config`; `build(config)`, which returns an object with
`verify(prompt, rollout) -> Verdict`; and `DECLARES`, what is known of it before it is built
(`Traits`). `verify` gives a verdict on whatever a response may be; it raises `InputError` for a
prompt without its reference and `Unavailable` where something outside does not answer. What else is
done with the object, before it judges, is declared too: `warm` and `start`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from oapl import tags
from oapl.config.fields import Flag, section
from oapl.config.kinds import Kind
from oapl.errors import InputError, OaplError
from oapl.interfaces import Verifier
from oapl.records import Prompt, Rollout, Verdict

GIB = 2**30
START_TIMEOUT_S = 60.0  # imports of math-verify and reasoning-gym take 2 s; a user's torch, 10 s
MAX_NESTED_BOXES = 8  # unwrapping costs a pass each

Truncated = Literal["wrong", "judge"]
AnswerIn = Literal["any", "boxed", "tag", "hashes"]
Range = Literal["zero_one", "minus_one_one"]
_BRACES = re.compile(r"\\boxed\s*\{|\\fbox\s*\{|\\.|\{|\}", re.DOTALL)
_TAG = re.compile(r"<answer>|</answer>")
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)


class AnswerOptions(Protocol):
    """The options of a verifier that compares an answer with a reference."""

    @property
    def range(self) -> Range:
        """Reward of a wrong answer."""

    @property
    def answer_in(self) -> AnswerIn:
        """In which form an answer counts."""

    @property
    def truncated(self) -> Truncated:
        """What becomes of a response cut off before EOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker process is held to.

    Attributes:
        is_jailed: Lock it into the sandbox (`reward_server.sandbox`).
        memory_bytes: Most address space; 0 means no limit.
        deadline_s: Hard limit for one item; 0 means `reward.deadline_s`.
        workers: Most worker processes, each judges one item at a time; 0 means `reward.workers`.
        start_s: Hard limit for the start of a process.
        first_s: Hard limit for the first item of a process, which may load what the others use;
            0 means that of the others.
    """

    is_jailed: bool = True
    memory_bytes: int = 3 * GIB
    deadline_s: float = 0.0
    workers: int = 0
    start_s: float = START_TIMEOUT_S
    first_s: float = 0.0


def _not_warmed(verifier: Any) -> None:
    """Where a file declares no `warm`."""


def _not_started(verifier: Any, level: str) -> None:
    """Where a file declares no `start`."""


@section
class Traits:
    """What must be known of a verifier before it is built. Each function but `warm` and `start` is
    given its `Config`."""

    runs_programs: Flag
    """true: it runs programs that models write, for which the sandbox is tried out first."""
    limits: Callable[[Any], Limits] = lambda config: Limits()
    """What its worker process is held to."""
    notes: Callable[[Any, Sequence[Prompt]], Sequence[str]] = lambda config, prompts: ()
    """What a user should know before a run with these options starts, a line each; given the
    prompts that it will judge, too, as far as they could be read."""
    check: Callable[[Any], None] = lambda config: None
    """Refuses early and cheaply, where the run is launched, what cannot work."""
    check_prompt: Callable[[Any, Prompt], object] = lambda config, prompt: None
    """Refuses a prompt whose reference it could judge nothing by, by a ValueError that says what is
    wrong; called for each before a run starts."""
    text_alone: Callable[[Any, Prompt], Sequence[str]] = lambda config, prompt: ()
    """The reference answers of a prompt that it can compare as text and by nothing else; a dry run
    counts them."""
    prepare: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    """The options that other nodes need in another form: a file's text besides its path."""
    warm: Callable[[Any], None] = _not_warmed
    """Given the verifier, once, in the fork server, from which workers are forked: `warm =
    MyVerifier.warm` imports there what all of them need."""
    start: Callable[[Any, str], None] = _not_started
    """Given the verifier in each worker process before it is locked up, and the level of its jail
    or, where it is not jailed, of the sandbox for programs (`reward_server.sandbox`)."""


class VerifierFile(Protocol):
    """A file of `reward_server/verifiers/`, or a module of the user's own."""

    Config: Annotated[type, "its options", "@section class Config: ..."]
    DECLARES: Annotated[
        Traits,
        "what is known of the verifier before it is built",
        "DECLARES = Traits(runs_programs=False)",
    ]

    def build(self, config: Any) -> Verifier:
        """The verifier with these options, an object with verify(prompt, rollout)."""


VERIFIERS: Kind[VerifierFile] = Kind("reward_server.verifiers", VerifierFile)


def build(file: VerifierFile, config: Any) -> Verifier:
    """Build a verifier.

    Args:
        file: Its plugin file.
        config: The file's own `Config`.

    Raises:
        InputError: It has a method `warm` or `start` that the file does not declare, so that nobody
            would call it.
    """
    built = file.build(config)
    declared = {
        "warm": file.DECLARES.warm is not _not_warmed,
        "start": file.DECLARES.start is not _not_started,
    }
    for name, is_declared in declared.items():
        if not is_declared and name in dir(built):
            kind = type(built).__name__
            raise InputError(
                f"{kind} of {file.build.__module__} has a method {name} that DECLARES does not "
                f"name, so nobody would call it; add DECLARES = Traits(..., {name}={kind}.{name})"
            )
    return built


class Unavailable(OaplError, RuntimeError):
    """What a verifier depends on did not answer: our fault, so the group fails with this cause."""


def wrong_reward(span: Range) -> float:
    """Give the reward of a wrong answer; a right one gives 1."""
    return -1.0 if span == "minus_one_one" else 0.0


def need(setting: str, **packages: str) -> None:
    """Refuse where a module that a verifier imports is not installed.

    Args:
        setting: The verifier's table in the configuration.
        packages: Module to the name under which pip knows it.

    Raises:
        InputError: The package to install.
    """
    for module, package in packages.items():
        if importlib.util.find_spec(module) is None:
            raise InputError(f"{setting} needs the package {package}: pip install {package}")


def cut_off(rollout: Rollout, rule: Truncated, reward: float) -> Verdict | None:
    """Give the verdict on a response that ended without EOS, if the rule says it needs no judging.

    Args:
        rollout: The response.
        rule: What becomes of such a response.
        reward: What it is given where the rule is `wrong`.

    Returns:
        None where the response is to be judged by what it says.
    """
    if rule == "judge" or rollout.finish_reason == "stop":
        return None
    return Verdict(kind="malformed", reward=reward, detail="cut off before EOS")


def answer_of(prompt: Prompt, rollout: Rollout, where: AnswerIn = "any") -> str | None:
    """Find the final answer of a response; None when it has none.

    Only the text after the last `</think>` counts, so that an answer tried out while thinking does
    not. Of several answers the last one is taken, and of a box and a tag the one that ends later;
    of lines of `####` the first, which ends a solution.

    Args:
        prompt: Tells whether thinking had begun before the response.
        rollout: The response.
        where: In which form an answer counts.
    """
    text = final_text(prompt, rollout)
    if text is None:
        return None
    found = [find(text) for find in FINDERS[where]]
    ends = [match for match in found if match is not None]
    return max(ends)[1].strip() if ends else None


def no_answer(prompt: Prompt, rollout: Rollout, where: AnswerIn) -> str:
    """Say what a response lacks that has no answer in the form asked for.

    Args:
        prompt: As for `answer_of`.
        rollout: The response.
        where: The form asked for.
    """
    missing = {
        "any": "no box and no answer tag",
        "boxed": "no box",
        "tag": "no answer tag",
        "hashes": "no line of ####",
    }[where]
    is_elsewhere = where != "any" and answer_of(prompt, rollout) is not None
    return missing + (", but an answer in another form" if is_elsewhere else "")


def final_text(prompt: Prompt, rollout: Rollout) -> str | None:
    """Cut the thought off a response, and the space around what is left.

    Args:
        prompt: Tells whether thinking had begun before the response.
        rollout: The response.

    Returns:
        The text after thinking, None when thinking never ended, all of it when there was none.
    """
    text = after_thinking(rollout.text, is_open=opens_thinking(prompt))
    return text.strip() if text is not None and "</think>" in rollout.text else text


def opens_thinking(prompt: Prompt) -> bool:
    """Whether the prompt itself ended with `<think>`."""
    return tags.opens_thinking(prompt.text)


def after_thinking(text: str, *, is_open: bool = False) -> str | None:
    """Give the text after the last `</think>`; None when thinking began and never ended.

    Args:
        text: The response.
        is_open: The prompt itself ended with `<think>`.
    """
    _, closing, final = text.rpartition("</think>")
    if not closing:
        return None if is_open or "<think>" in text else text
    return None if "<think>" in final else final


def boxed(text: str) -> tuple[int, str] | None:
    r"""Find end and content of the last balanced `\boxed{...}`, in one pass over the text.

    An escaped brace counts as text. A box that is nothing but another box is unwrapped.
    """
    found: tuple[int, int] | None = None
    starts: list[int] = []  # per open brace: where its box's content begins, or -1
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "}":
            if starts and (start := starts.pop()) >= 0:
                found = start, match.start()
        elif token.endswith("{") and token != r"\{":
            starts.append(match.end() if token != "{" else -1)
    if found is None:
        return None
    content = text[slice(*found)].strip()
    for _ in range(MAX_NESTED_BOXES):
        inner = _whole_box(content)
        if inner is None:
            break
        content = inner.strip()
    return found[1], content


def tagged(text: str) -> tuple[int, str] | None:
    """Find end and content of the last `<answer>...</answer>`."""
    found: tuple[int, str] | None = None
    start = -1
    for match in _TAG.finditer(text):
        if match.group() == "<answer>":
            start = match.end()
        elif start >= 0:
            found, start = (match.start(), text[start : match.start()]), -1
    return found


def hashed(text: str) -> tuple[int, str] | None:
    """Find end and content of the first line of `#### ...`, as GSM8K's solutions end."""
    found = _HASHES.search(text)
    return (found.end(), found.group(1)) if found else None


FINDERS: Mapping[AnswerIn, tuple[Callable[[str], tuple[int, str] | None], ...]] = {
    "any": (boxed, tagged),
    "boxed": (boxed,),
    "tag": (tagged,),
    "hashes": (hashed,),
}
"""What looks for an answer, by the form asked for."""


def _whole_box(content: str) -> str | None:
    start = re.match(r"\\(?:boxed|fbox)\s*\{", content)
    if not start or not content.endswith("}"):
        return None
    depth = 1
    for match in _BRACES.finditer(content, start.end()):
        token = match.group()
        if token == "}":
            depth -= 1
            if not depth:
                return content[start.end() : -1] if match.end() == len(content) else None
        elif token.endswith("{") and token != r"\{":
            depth += 1
    return None


def judge_answer(
    prompt: Prompt,
    rollout: Rollout,
    options: AnswerOptions,
    same: Callable[[str, str], tuple[bool | None, str]],
) -> Verdict:
    """Judge the last answer of a response: it is right if it is one of the references.

    Args:
        prompt: Its reference has an `answer`, or a list of them.
        rollout: The response.
        options: Of the verifier.
        same: Of an answer and a reference, as they were written: whether they are the same (None:
            time ran out), and why.

    Raises:
        InputError: The prompt has no reference.
    """
    wrong = wrong_reward(options.range)
    references = golds(prompt)
    cut = cut_off(rollout, options.truncated, wrong)
    if cut:
        return cut
    answer = answer_of(prompt, rollout, options.answer_in)
    if not answer:
        detail = no_answer(prompt, rollout, options.answer_in)
        return Verdict(kind="malformed", reward=wrong, detail=detail)
    inner = boxed(answer)  # <answer>so it is \boxed{4}</answer>
    answer = inner[1] if inner else answer
    is_out_of_time, why = False, ""
    for gold in references:
        is_right, why = same(answer, gold)
        if is_right:
            return Verdict(kind="accepted", reward=1.0, detail=why)
        is_out_of_time |= is_right is None
    return Verdict(
        kind="timeout" if is_out_of_time else "wrong_answer",
        reward=wrong,
        detail=f"{answer[:80]!r}: {why}",
    )


def golds(prompt: Prompt) -> list[str]:
    """Read the reference answers of a prompt, any of which will do.

    A reference may be a whole solution: what is behind `####` (GSM8K) or in its last box counts.

    Raises:
        InputError: It has none, or one that no text can equal.
    """
    answer = prompt.reference.get("answer")
    several = answer if isinstance(answer, list | tuple) else [answer]
    if any(isinstance(gold, Mapping | list | tuple | bytes) for gold in several):
        fields = list(answer) if isinstance(answer, Mapping) else []
        lead = f"; answer_key may lead into it, to {' or '.join(map(str, fields))}"
        raise InputError(
            f"the reference answer of prompt {prompt.id} is {repr(answer)[:80]}, but its verifier "
            f"({', '.join(prompt.verifiers)}) compares text, a number, or a list of these"
            f"{lead if fields else ''}"
        )
    texts = [str(gold) for gold in several if gold is not None and str(gold).strip()]
    if not texts:
        raise InputError(
            f"prompt {prompt.id} has no reference answer, but its verifier "
            f"({', '.join(prompt.verifiers)}) needs one; "
            f"its reference has {', '.join(map(str, prompt.reference)) or 'nothing'}"
        )
    return [_gold(text) for text in texts]


def _gold(text: str) -> str:
    text = text.rpartition("####")[2]
    box = boxed(text)
    return box[1] if box else text

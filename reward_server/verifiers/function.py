"""A reward function of the user's own: `def reward(prompt, response, reference) -> float`.

`[reward.options.function] function = "path/to/file.py:reward"`, or `"package.module:reward"`, or
`"package.module.reward"`. It is called by the names of its parameters (`functions.calling`; those
of verl and TRL are known too) and may be `async`. A file is read where the run is launched and
travels as text, so that every node has it; its own folder is importable where it exists. The code
is loaded in the worker process and nowhere else; an exception in it gives the configured reward and
is counted `error`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict
from reward_server.functions import loading, outcome
from reward_server.functions.calling import ORDER, Argument, Asked, Call, call_of
from reward_server.verifiers import base

SETTING = "reward.options.function.function"
WARM_SETTING = "reward.options.function.warm"


@section
class Config:
    """Options of the user's own reward function."""

    function: str = ""
    """path/to/file.py:NAME, package.module:NAME or package.module.NAME."""
    source: str = ""
    """Text of the file; filled in where the run is launched."""
    warm: str = ""
    """Function of the same module, without parameters, that each fresh process calls before it
    judges: the place to load a model."""
    start_s: Annotated[float, Field(gt=0)] = 60.0
    """Limit for the start of a fresh process, `warm` included, and again for its first call, which
    may load what later calls use; later ones have `reward.deadline_s`."""
    context: Literal["question", "text"] = "question"
    """What the function sees of the prompt: the user's question, or the text after templating."""
    response: Literal["response", "context"] = "response"
    """What it sees as the response: itself, or the whole context, prompt text and response."""
    messages: bool = False
    """Prompt and response are shown as chat messages, as TRL does with chat data."""
    truncated: base.Truncated = "judge"
    """A response cut off before EOS: 0 without a look, or let the function judge it."""
    sandbox: bool = False
    """Jail the process: no network, no files but Python's own."""
    memory_gib: Annotated[float, Field(ge=0)] = 0.0
    """Most address space of the process; 0 means no limit (torch reserves a great deal)."""


class FunctionVerifier:
    """Calls the user's function. See `oapl.interfaces.Verifier`.

    The code is loaded by `start`, in the worker process.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._function: Callable[..., Any] | None = None
        self._call: Call
        self._runner = asyncio.Runner()

    def start(self, level: str) -> None:
        """Load the user's code, and warm it."""
        place, name = loading.split(self._config.function, SETTING)
        module = loading.load(place, self._config.source, SETTING)
        function = loading.member(module, name, SETTING)
        self._call = _call_of(function, name)
        if self._config.warm:
            self._finished(loading.member(module, self._config.warm, WARM_SETTING)())
        self._function = function

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Call the user's function."""
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return cut
        if self._function is None:
            self.start("none")
        assert self._function is not None
        result = self._finished(self._call.reward(self._function, self._asked(prompt, rollout)))
        reward, parts = outcome.read(result, is_batch=self._call.is_batch)
        return Verdict(
            kind="accepted" if reward > 0 else "wrong_answer", reward=reward, parts=parts
        )

    def _asked(self, prompt: Prompt, rollout: Rollout) -> Asked:
        question = prompt.text if self._config.context == "text" else prompt.question or prompt.text
        is_whole = self._config.response == "context"
        response = prompt.text + rollout.text if is_whole else rollout.text
        return Asked(
            prompt=self._shown("user", question),
            response=self._shown("assistant", response),
            columns=prompt.reference,
            source=prompt.source,
        )

    def _shown(self, role: str, text: str) -> Any:
        return [{"role": role, "content": text}] if self._config.messages else text

    def _finished(self, result: Any) -> Any:
        """What an `async def` comes to; anything else is there already."""
        return self._runner.run(_awaited(result)) if inspect.isawaitable(result) else result


def build(config: Config) -> FunctionVerifier:
    """See `VerifierFile`."""
    return FunctionVerifier(config)


def limits(config: Config) -> base.Limits:
    """See `Traits`."""
    return base.Limits(
        is_jailed=config.sandbox,
        memory_bytes=int(config.memory_gib * base.GIB),
        start_s=config.start_s,
        first_s=config.start_s,
    )


def check(config: Config) -> None:
    """Read the function's source, without running it.

    Raises:
        InputError: No such file, module or function; a syntax error; parameters that tell of no
            form that is known.
    """
    place, name = loading.split(config.function, SETTING)
    text = config.source or loading.text_of(place, SETTING)
    functions, assigned = loading.functions_in(text, place, SETTING)
    for setting, one in ((SETTING, name), (WARM_SETTING, config.warm)):
        if one and one not in functions and one not in assigned:
            known = ", ".join(functions) or "none"
            raise InputError(
                f"{setting}: {place} has no function {one!r}; its functions are {known}"
            )
    if function := functions.get(name):
        where = f"{name} in {place}, line {function.lineno},"
        _named(where, lambda: call_of(loading.signature_of(function)))


def prepare(config: Config) -> dict[str, Any]:
    """The file's text, and its path made absolute.

    Raises:
        InputError: No such file.
    """
    place, name = loading.split(config.function, SETTING)
    if not place.endswith(".py") or config.source:
        return {}
    return {
        "function": f"{loading.absolute(place)}:{name}",
        "source": loading.text_of(place, SETTING),
    }


def _call_of(function: Callable[..., Any], name: str) -> Call:
    """How a function that was loaded is called; one that does not tell, in the known order."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        arguments = (Argument(name=role, role=role, is_positional=True) for role in ORDER)
        return Call(arguments=tuple(arguments))
    return _named(name, lambda: call_of(signature))


def _named(name: str, find: Callable[[], Call]) -> Call:
    try:
        return find()
    except InputError as error:
        raise InputError(f"{SETTING}: {name} {error}") from error


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


DECLARES = base.Traits(
    runs_programs=False, limits=limits, check=check, prepare=prepare, start=FunctionVerifier.start
)

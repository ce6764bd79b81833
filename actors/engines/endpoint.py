"""Any OpenAI-compatible endpoint in the place of an engine: it answers `oapl eval`, nothing else.

What is sent is the very tokens of the prompt (`api = "tokens"`: vLLM, SGLang), its text, or the
question as a user's message, which the endpoint writes by a template of its own. Requests are made
side by side, a bounded number at a time. What comes back is text: its tokens are those of the
tokenizer of `model.path`, unless the endpoint tells its own (vLLM does for `extra = {
return_token_ids = true }`), and it has no log-probs. A key comes from the environment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import numpy as np

from actors.data.templates import choose
from actors.data.tokenizer import load_tokenizer
from actors.engines import base
from oapl.config import RunConfig
from oapl.config.fields import Count, NonNegativeInt, Positive, section
from oapl.counters import Counters
from oapl.errors import EngineError, InputError, WeightsError
from oapl.interfaces import WeightReceiver
from oapl.records import (
    FinishReason,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    WeightsVersion,
)

SETTING = "eval.endpoint"
BACK_OFF_S = 10.0
"""The client waits up to 8 s between two attempts."""
OURS = (400, 401, 403, 404, 405, 422)
"""Statuses that no further attempt would change."""
UNVERSIONED = -1


@section
class Config:
    """Options of an endpoint (`eval.endpoint`)."""

    base_url: str = ""
    """The endpoint, up to and including /v1."""
    model: str = ""
    """The model's name there."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty for an endpoint that asks for none."""
    api: Literal["tokens", "text", "chat"] = "tokens"
    """What it is sent: the prompt's tokens or its text (/completions), or the question as a message
    (/chat/completions)."""
    requests: Count = 64
    """Most requests in flight."""
    timeout_s: Positive = 600.0
    """Longest wait for one attempt."""
    retries: NonNegativeInt = 4
    """Further attempts, with growing pauses, when the endpoint is down, busy or slow."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of the request body: seed, chat_template_kwargs..."""

    @property
    def budget_s(self) -> float:
        """Longest time for one answer, attempts and pauses together."""
        return (self.retries + 1) * self.timeout_s + self.retries * BACK_OFF_S


def problems(config: RunConfig) -> Iterator[str]:
    """What of the configuration this engine cannot do."""
    if not config.eval.endpoint:
        yield (
            "rollout.engine = 'endpoint': takes no weights, and answers `oapl eval` alone; choose "
            f"another engine, or set {SETTING} for that command"
        )
        return
    options = Config(**config.rollout.engine_options)
    for name in ("base_url", "model"):
        if not getattr(options, name):
            yield f"{SETTING}.{name} is not set; it names the endpoint's {name}"
    if options.api_key_env and not os.environ.get(options.api_key_env):
        yield (
            f"{SETTING}.api_key_env = {options.api_key_env!r}: there is no such environment "
            "variable here; set it, or leave api_key_env out where the endpoint asks for no key"
        )


def environment(config: RunConfig) -> dict[str, str]:
    """What must be in the environment: nothing of a key, which the machine itself has."""
    return {"TOKENIZERS_PARALLELISM": "false"}


def memory_fraction(config: RunConfig) -> float:
    """Share of a device's memory that the engine may fill: it has none."""
    return 0.0


def build(
    config: RunConfig,
    *,
    receiver: WeightReceiver,
    index: int,
    incarnation: int = 0,
    step: int = 0,
) -> EndpointEngine:
    """Make the client; version -1 for ever.

    Args:
        config: The run: its options are `rollout.engine_options`.
        receiver, index, incarnation, step: Of no account: nothing is published to an endpoint, and
            it draws by seeds of its own.
    """
    return EndpointEngine(config)


class EndpointEngine:
    """See `oapl.interfaces.Engine`; connects when it is first asked.

    Args:
        config: The run.
    """

    version = UNVERSIONED

    def __init__(self, config: RunConfig) -> None:
        self._answered_at = float("-inf")
        self._options = Config(**config.rollout.engine_options)
        self._tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self._variables = choose(config.data, self._tokenizer).variables
        self._system_prompt = config.data.system_prompt
        self._counters = Counters()
        self._client: Any = None
        self._room = asyncio.Semaphore(self._options.requests)
        self._is_closed = False

    async def generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None = None
    ) -> Rollout:
        """Ask for one response. See `oapl.interfaces.Engine.generate`.

        Args:
            prompt, sampling: See there.
            begun: None: it has no version under which another's could go on.

        Raises:
            InputError: The endpoint refuses the request: the name of the model, the key, the
                prompt's length.
            EngineError: It gave no answer, after retries.
        """
        assert begun is None, "an endpoint answers evaluations alone"
        async with self._room:
            if self._is_closed:
                raise EngineError(f"{self._place} was closed")
            answer = await self._ask(prompt, sampling)
        choices = getattr(answer, "choices", None)
        if not choices:
            said = str(answer)[: base.LONGEST_REASON]
            raise EngineError(f"{self._place} sent no completion: {said!r}")
        rollout = self._rollout(choices[0])
        self._answered_at = time.monotonic()
        base.count_rollout(self._counters, rollout)
        return rollout

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Refuse: an endpoint takes no weights.

        Raises:
            WeightsError: Always.
        """
        raise WeightsError(f"{self._place} takes no weights")

    async def score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Refuse: an endpoint scores no tokens, int32 [T].

        Raises:
            EngineError: Always.
        """
        raise EngineError(f"{self._place} scores no tokens")

    async def rebuild(self) -> None:
        """Connect anew at the next request."""
        self._client = None

    def stats(self) -> Metrics:
        """Report sums since the last call."""
        return self._counters.take()

    def quiet_s(self) -> float:
        """Seconds since its last response."""
        return time.monotonic() - self._answered_at

    async def ping(self) -> None:
        """Return: each request to a server elsewhere has its own deadline."""

    def close(self) -> None:
        """Ask for nothing more."""
        self._is_closed = True

    @property
    def _place(self) -> str:
        return f"the endpoint {self._options.base_url} (model {self._options.model!r})"

    async def _ask(self, prompt: Prompt, sampling: Sampling) -> Any:
        import openai

        if self._client is None:
            self._client = _client(self._options)
        try:
            async with asyncio.timeout(self._options.budget_s):
                return await self._request(prompt, sampling)
        except TimeoutError as error:
            raise EngineError(
                f"{self._place} gave no answer in {self._options.budget_s:g} s "
                f"({SETTING}.timeout_s and .retries)"
            ) from error
        except openai.APIStatusError as error:
            said = f"{self._place} answers {error.status_code}: {_reason(error)}"
            if error.status_code in OURS:
                raise InputError(
                    f"{said}; correct {SETTING}, or what is asked (prompt {prompt.id}, "
                    f"{sampling.max_tokens} tokens at most)"
                ) from error
            raise EngineError(f"{said}, after {self._options.retries} retries") from error
        except (openai.OpenAIError, ValueError) as error:  # ValueError: no JSON
            if isinstance(error, InputError):
                raise
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise EngineError(
                f"{self._place}: {type(error).__name__}: {_reason(error)}{cause}, after "
                f"{self._options.retries} retries"
            ) from error

    async def _request(self, prompt: Prompt, sampling: Sampling) -> Any:
        extra = {**({"top_k": sampling.top_k} if sampling.top_k else {}), **self._options.extra}
        common: dict[str, Any] = {
            "model": self._options.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "extra_body": extra,
        }
        if self._options.api == "chat":
            messages = self._messages(prompt)
            return await self._client.chat.completions.create(messages=messages, **common)
        sent = prompt.token_ids.tolist() if self._options.api == "tokens" else prompt.text
        return await self._client.completions.create(prompt=sent, **common)

    def _messages(self, prompt: Prompt) -> list[Mapping[str, str]]:
        """The question as a user's message, where the prompt says nothing more.

        Raises:
            InputError: It does: another wording, or several messages.
        """
        messages: list[Mapping[str, str]] = [{"role": "user", "content": prompt.question}]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        if prompt.text != prompt.question and prompt.text != self._written(messages):
            raise InputError(
                f'{SETTING}.api = "chat": prompt {prompt.id} is more than its question as one '
                'message, by its template or its row; set api = "tokens" or "text", or '
                'data.template = "auto"'
            )
        return messages

    def _written(self, messages: list[Mapping[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            return ""
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self._variables
            )
        )

    def _rollout(self, choice: Any) -> Rollout:
        reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
        text = _text(choice)
        ids = getattr(choice, "token_ids", None)
        if not ids:
            ids = list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            if reason == "stop" and self._tokenizer.eos_token_id is not None:
                ids.append(self._tokenizer.eos_token_id)
        return Rollout(
            token_ids=np.asarray(ids, dtype=np.int32),
            inference_logprobs=None,
            finish_reason=reason,
            text=text,
            first_version=UNVERSIONED,
            last_version=UNVERSIONED,
        )


def _client(options: Config) -> Any:
    import openai

    return openai.AsyncOpenAI(
        base_url=options.base_url,
        api_key=os.environ.get(options.api_key_env, "") or "none",
        timeout=options.timeout_s,
        max_retries=options.retries,
    )


def _text(choice: Any) -> str:
    """What the model wrote, its thinking in front where the endpoint has taken it out."""
    message = getattr(choice, "message", None)
    if message is None:
        return choice.text or ""
    content = message.content or ""
    thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return f"<think>\n{thought}\n</think>\n\n{content}" if thought else content


def _reason(error: Exception) -> str:
    return base.reason_of(error)

"""Penalties for how a response ends and how long it is, beside what it says.

Name it next to the verifiers whose rewards it shapes: its reward is 0 or less. A response without
EOS pays `termination_penalty` (ProRL section 4.2, which does not say how much). Length control is
off: the Perplexity report found that it kept responses short and accuracy low. What a response
that was cut off gets from another verifier is that verifier's `truncated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server.verifiers import base

SETTING = "reward.options.shaping"


@section
class Config:
    """Options of reward shaping."""

    termination_penalty: Annotated[float, Field(ge=0)] = 0.1
    """Taken from the reward of a response without EOS."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Taken from the reward of a response of `length_limit` tokens; 0 is no length control."""
    length_free: Annotated[int, Field(ge=0)] = 0
    """Tokens that cost nothing; from here the penalty rises evenly up to `length_limit`."""
    length_limit: Annotated[int, Field(ge=0)] = 0
    """Tokens from which the whole penalty is due."""


class ShapingVerifier:
    """Adds up the penalties. See `oapl.interfaces.Verifier`.

    Each is a part, and so is the share that was cut off.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Add up the penalties."""
        has_ended = rollout.finish_reason == "stop"
        parts = {
            "termination": 0.0 if has_ended else -self._config.termination_penalty,
            "length": -self._config.length_penalty * self._excess(len(rollout.token_ids)),
            "truncated": float(rollout.is_truncated),
        }
        reward = parts["termination"] + parts["length"]
        if not has_ended:
            return Verdict(kind="malformed", reward=reward, detail="no EOS", parts=parts)
        kind: VerdictKind = "wrong_answer" if reward < 0 else "accepted"
        return Verdict(kind=kind, reward=reward, detail=f"length {parts['length']:g}", parts=parts)

    def _excess(self, length: int) -> float:
        """0 up to `length_free` tokens, 1 from `length_limit` on."""
        if not self._config.length_penalty:
            return 0.0
        free, limit = self._config.length_free, self._config.length_limit
        return min(max((length - free) / (limit - free), 0.0), 1.0)


def build(config: Config) -> ShapingVerifier:
    """See `VerifierFile`."""
    check(config)
    return ShapingVerifier(config)


def check(config: Config) -> None:
    """Refuse length control without a range.

    Raises:
        InputError: Its bounds are none.
    """
    if config.length_penalty and config.length_limit <= config.length_free:
        raise InputError(
            f"{SETTING}.length_limit = {config.length_limit} must be more than length_free = "
            f"{config.length_free} where length_penalty is on; set it to the tokens from which "
            "the whole penalty is due"
        )


def notes(config: Config, prompts: Sequence[Prompt]) -> list[str]:
    """The warning that goes with length control.

    Args:
        config: Whether it is on.
        prompts: Of no matter.
    """
    if not config.length_penalty:
        return []
    return [
        f"warning: {SETTING}.length_penalty is on; length control has been seen to hold responses "
        "short and accuracy low (collapse of length in the Perplexity report): watch both"
    ]


DECLARES = base.Traits(runs_programs=False, check=check, notes=notes)

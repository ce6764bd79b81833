"""Prompts, rollouts and reward servers for the tests of the reward server."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from oapl import RunConfig
from oapl.config import plugins
from oapl.records import Prompt, Rollout
from reward_server.server import RewardServer, build
from reward_server.verifiers.base import VERIFIERS

HOSTILE = "tests.support.hostile_verifier"


def prompt(
    reference: Mapping[str, Any],
    verifiers: Mapping[str, float] | None = None,
    text: str = "q",
    question: str = "What?",
) -> Prompt:
    return Prompt(
        id="p:0@0",
        text=text,
        token_ids=np.zeros(4, np.int32),
        verifiers=verifiers or {"math": 1.0},
        reference=reference,
        source="s",
        question=question,
    )


def rollout(text: str, reason: str = "stop") -> Rollout:
    return Rollout(
        token_ids=np.zeros(4, np.int32),
        inference_logprobs=np.zeros(4, np.float32),
        finish_reason=reason,  # type: ignore[arg-type]
        text=text,
        first_version=0,
        last_version=0,
    )


def built(name: str, /, **options: Any) -> Any:
    """A verifier with these options, built and not started."""
    file = VERIFIERS.load(name)
    return file.build(plugins.parse(file.Config, options, f"reward.options.{name}."))


def deed(do: str, argument: str = "", *, text: str = "1") -> tuple[Prompt, Rollout]:
    """A task under which the hostile verifier does `do`."""
    return prompt({"do": do, "argument": argument}, {HOSTILE: 1.0}), rollout(text)


@contextlib.asynccontextmanager
async def server(
    verifiers: Mapping[str, float], options: Mapping[str, Any] | None = None, **reward: Any
) -> AsyncIterator[RewardServer]:
    table = {"verifiers": dict(verifiers), "options": dict(options or {}), **reward}
    running = build(RunConfig(reward=table))
    try:
        yield running
    finally:
        await running.close()


def is_gone(pid: int, timeout_s: float) -> bool:
    """Whether a process ends within the time; a zombie counts as ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)

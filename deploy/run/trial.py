"""Every verifier is tried on real prompts before anything is generated or trained.

A response that no model wrote is harmless: it gives the prompt's own answer where there is one, in
every form that a verifier looks for, or says nothing. A verifier works when any of its tries has a
verdict: one response may be of a form that it cannot read.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from oapl.config import RunConfig
from oapl.errors import VerifierError
from oapl.interfaces import RewardServer
from oapl.records import Judgement, Prompt, Rollout
from oapl.remote.waiting import within
from reward_server.settings import in_use

GRACE_S = 300.0
"""What a server may take beyond the limits that it keeps itself."""
NO_VERDICT = ("error", "timeout", "runtime_error", "resource_limit", "sandbox_violation")
NOTHING = "I do not know."

Task = tuple[Prompt, Rollout]


async def try_out(
    config: RunConfig, servers: Sequence[RewardServer], prompts: Sequence[Prompt]
) -> None:
    """Let each verifier judge harmless responses, on every reward server.

    Args:
        config: The run.
        servers: Just started; nothing of the trial is left in their counters.
        prompts: Of the run's data.

    Raises:
        VerifierError: One gives no verdict on any of them.
    """
    limit_s = _limit_s(config)
    tasks = [task for prompt in prompts for task in _tasks(prompt)]
    await asyncio.gather(
        *(
            within(limit_s, _try(number, server, tasks), f"reward server {number} to be tried out")
            for number, server in enumerate(servers)
        )
    )


def remedy(verifier: str, kind: str) -> str:
    """Say what to do about a verifier that does not work.

    Args:
        verifier: Its name in the run.
        kind: Of what stands for its verdicts, or `failure`.
    """
    if kind == "timeout":
        return (
            f"raise reward.deadline_s or make it quicker; what a function loads at its first call "
            f"has reward.options.{verifier}.start_s"
        )
    return (
        f"mend it or reward.options.{verifier}; `oapl score IN --verifier NAME --out OUT` tries it "
        "on stored responses"
    )


def _limit_s(config: RunConfig) -> float:
    """Longest that a server may need: it waits by limits of its own, and tries again."""
    every = [verifier.file().DECLARES.limits(verifier.config()) for verifier in in_use(config)]
    longest_s = max((one.start_s + one.first_s + one.deadline_s for one in every), default=0.0)
    reward = config.reward
    return GRACE_S + reward.max_wait_s + (reward.retries + 1) * (longest_s + reward.deadline_s)


async def _try(number: int, server: RewardServer, tasks: Sequence[Task]) -> None:
    judgements = await server.score(tasks)
    await server.stats()
    by_verifier: defaultdict[str, list[Judgement]] = defaultdict(list)
    for (prompt, _), judgement in zip(tasks, judgements, strict=True):
        (name,) = prompt.verifiers
        by_verifier[name].append(judgement)
    for name, tries in by_verifier.items():
        faults = [fault for judgement in tries if (fault := _fault(name, judgement))]
        if len(faults) == len(tries):
            kind, detail = faults[0]
            raise VerifierError(
                f"verifier {name} gave no verdict on any of {len(tries)} trial responses (reward "
                f"server {number}); the first {kind}: {detail}; {remedy(name, kind)}"
            )


def _fault(name: str, judgement: Judgement) -> tuple[str, str] | None:
    """Kind and detail of what came instead of a verdict."""
    if judgement.failure is not None:
        return "failure", judgement.failure
    verdict = judgement.verdicts[name]
    return (verdict.kind, verdict.detail) if verdict.kind in NO_VERDICT else None


def _tasks(prompt: Prompt) -> list[Task]:
    """Each verifier of a prompt alone, with each response."""
    answer = prompt.reference.get("answer")
    texts = [_right(answer if isinstance(answer, str) else "1"), NOTHING]
    return [
        (replace(prompt, verifiers={name: 1.0}), _response(text))
        for name in prompt.verifiers
        for text in texts
    ]


def _right(answer: str) -> str:
    r"""An answer in a fence, a box and a tag."""
    thought = "<think>\nThis response tries the verifier out.\n</think>\n\n"
    return f"{thought}```python\npass\n```\n\\boxed{{{answer}}}\n<answer>{answer}</answer>"


def _response(text: str) -> Rollout:
    return Rollout(
        token_ids=np.zeros(1, np.int32),
        inference_logprobs=None,
        finish_reason="stop",
        text=text,
        first_version=0,
        last_version=0,
    )

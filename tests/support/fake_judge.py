"""An OpenAI-compatible endpoint on the loopback interface that says what a test tells it to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.recipes.toy_judge import served


@dataclass
class FakeJudge:
    """What it was asked, and how it answers: text, or an HTTP status."""

    answer: Callable[[str], str | int]
    url: str = ""
    delay_s: float = 0.0
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def options(self, **more: Any) -> dict[str, Any]:
        return {"base_url": self.url, "model": "fake", "retries": 0, "timeout_s": 60, **more}

    def asked(self, body: Mapping[str, Any], key: str) -> str | int:
        self.requests.append(body)
        self.keys.append(key)
        time.sleep(self.delay_s)
        return self.answer(body["messages"][-1]["content"])


@contextlib.contextmanager
def fake_judge(answer: Callable[[str], str | int]) -> Iterator[FakeJudge]:
    """A server that gives `answer(what it was asked)`, until the block ends."""
    judge = FakeJudge(answer)
    with served(judge.asked) as judge.url:
        yield judge

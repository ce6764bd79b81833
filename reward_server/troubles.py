"""What keeps verifiers from judging, told once per sort, and at once where nothing else comes.

Invariants: of one verifier no more than `MAX_SORTS` are told; a verdict of any verifier's own ends
its row of failures; a row counts once it is of two prompts, for one row of the data may be bad.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

from oapl.records import Trouble

MAX_SORTS = 8
MIN_PROMPTS = 2
_PARTICULAR = re.compile(r"\d+|'[^']*'|\"[^\"]*\"|prompt \S+")
"""What differs between two errors of one sort: numbers, quoted values, the prompt's id."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """Failures of a verifier since its last verdict."""

    count: int = 0
    prompts: set[str] = field(default_factory=set)


class Troubles:
    """Collects troubles until somebody takes them.

    Args:
        most_in_vain: So many failures in a row mean that the verifier does not work.
    """

    def __init__(self, most_in_vain: int) -> None:
        self._most = most_in_vain
        self._rows: defaultdict[str, _Row] = defaultdict(_Row)
        self._sorts: defaultdict[str, set[str]] = defaultdict(set)
        self._waiting: list[Trouble] = []
        self._news = asyncio.Event()

    def worked(self, verifier: str) -> None:
        """A verifier gave a verdict: it works, whatever failed before."""
        self._rows.pop(verifier, None)

    def failed(self, verifier: str, prompt: str, kind: str, detail: str) -> None:
        """A verifier gave none.

        Args:
            verifier: Its name in this run.
            prompt: The prompt's id.
            kind: Of the verdict that stands for it, or `failure`.
            detail: Why, in one line.
        """
        row = self._rows[verifier]
        row.count += 1
        if len(row.prompts) < MIN_PROMPTS:
            row.prompts.add(prompt)
        sort = f"{kind}: {_PARTICULAR.sub('', detail)[:80]}"
        is_total = row.count >= self._most and len(row.prompts) >= MIN_PROMPTS
        sorts = self._sorts[verifier]
        is_new = sort not in sorts and len(sorts) < MAX_SORTS
        if is_new:
            sorts.add(sort)
            log.warning("verifier %s, first %s: %s", verifier, kind, detail)
        if is_new or is_total:
            self._waiting.append(
                Trouble(
                    verifier=verifier,
                    kind=kind,
                    detail=detail,
                    sort=sort,
                    in_vain=row.count if is_total else 0,
                )
            )
            self._news.set()
        if is_total:
            self._rows.pop(verifier)

    async def take(self, timeout_s: float) -> list[Trouble]:
        """Give what nobody was told yet.

        Args:
            timeout_s: Longest wait for the first one; nothing comes when it is over.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()
        taken, self._waiting = self._waiting, []
        return taken

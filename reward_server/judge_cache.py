"""Replies of an LLM judge, kept on disk and shared by every process that opens the same file.

SQLite in write-ahead mode: put the file on a local disk (network file systems break its locks).
A key is the SHA-256 of everything that was sent, the endpoint included.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_S = 20.0  # for another process's write


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the judge said, and the tokens it read and wrote."""

    text: str
    prompt_tokens: int
    completion_tokens: int


def key(request: Mapping[str, Any]) -> str:
    """The name under which the reply to a request is kept."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class JudgeCache:
    """Replies by the key of their request, in one file; a connection does not survive a fork.

    Open it in the process that uses it.

    Args:
        path: The SQLite file; it and its folder are made where they are missing.

    Raises:
        sqlite3.Error: The file cannot be opened, read or written; each method may raise it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL, "
            "prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL)"
        )

    def get(self, key: str) -> Reply | None:
        """Find the reply to a request, None where none is kept; `key` names the request."""
        row = self._db.execute(
            "SELECT text, prompt_tokens, completion_tokens FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return Reply(text=row[0], prompt_tokens=row[1], completion_tokens=row[2]) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; one that was kept before is replaced.

        Args:
            key: What `key` makes of the request.
            reply: What the judge said to it.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)",
            (key, reply.text, reply.prompt_tokens, reply.completion_tokens),
        )

    def close(self) -> None:
        """Close the file; the replies stay in it."""
        self._db.close()

"""An OpenAI-compatible endpoint on the loopback interface that says what a test tells it to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeJudge:
    """What it was asked, and how it answers: text, or an HTTP status."""

    answer: Callable[[str], str | int]
    url: str = ""
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def options(self, **more: Any) -> dict[str, Any]:
        return {"base_url": self.url, "model": "fake", "retries": 0, "timeout_s": 60, **more}


@contextlib.contextmanager
def fake_judge(answer: Callable[[str], str | int]) -> Iterator[FakeJudge]:
    """A server that gives `answer(what it was asked)`, until the block ends."""
    judge = FakeJudge(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.requests.append(body)
            judge.keys.append(self.headers.get("Authorization", ""))
            time.sleep(judge.delay_s)
            said = judge.answer(body["messages"][-1]["content"])
            reply = _failure(said) if isinstance(said, int) else _body(said)
            self.send_response(said if isinstance(said, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _body(said: str) -> bytes:
    """What begins with `RAW ` is sent as it is."""
    return said[4:].encode() if said.startswith("RAW ") else _completion(said)


def _completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "fake",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    ).encode()


def _failure(status: int) -> bytes:
    return json.dumps({"error": {"message": f"no: {status}", "type": "fake"}}).encode()

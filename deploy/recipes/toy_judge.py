"""A judge without a model, for the toy twin of PCL's offline RL: it compares two numbers.

    python -m deploy.recipes.toy_judge [PORT]

An OpenAI-compatible endpoint on the loopback interface, so that the verifier `judge` of the
published recipe runs as it is; what it is asked is that verifier's own words.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 18911
"""Of the twin's `reward.options.judge.base_url`."""
SHOWN = re.compile(r"\[(REFERENCE|CANDIDATE)\]\n(.*?)\n\[/\1\]", re.DOTALL)
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")

Answer = Callable[[Mapping[str, Any], str], str | int]
"""What is said to a request's body and its key: text, or an HTTP status."""


@contextlib.contextmanager
def served(answer: Answer, port: int = 0) -> Iterator[str]:
    """Serve chat completions in a thread until the block ends.

    Args:
        answer: Called in a thread of each request; text that begins with `RAW ` is sent as it is.
        port: 0 takes a free one.

    Returns:
        The endpoint, up to and including /v1.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = answer(body, self.headers.get("Authorization", ""))
            reply = _failure(said) if isinstance(said, int) else _completion(said)
            self.send_response(said if isinstance(said, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def judge(body: Mapping[str, Any], key: str = "") -> str:
    """Compare the candidate's last box with the reference, as text.

    Args:
        body: Of the request.
        key: Of no account.
    """
    shown = dict(SHOWN.findall(body["messages"][-1]["content"]))
    boxes = BOXED.findall(shown.get("CANDIDATE", ""))
    is_right = bool(boxes) and boxes[-1].strip() == shown.get("REFERENCE", "").strip()
    return f"VERDICT: {'CORRECT' if is_right else 'INCORRECT'}"


def _completion(text: str) -> bytes:
    if text.startswith("RAW "):
        return text[4:].encode()
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "toy",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    ).encode()


def _failure(status: int) -> bytes:
    return json.dumps({"error": {"message": f"no: {status}", "type": "toy"}}).encode()


if __name__ == "__main__":
    with served(judge, int(sys.argv[1]) if len(sys.argv) > 1 else PORT) as url:
        print(url, flush=True)
        threading.Event().wait()

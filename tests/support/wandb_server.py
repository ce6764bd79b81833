"""As much of a W&B server as its client needs for a run that is online, in a process of its own.

with served() as server:    # killed at the end of the block, its connections with it
    ... WANDB_BASE_URL=server.url ...
"""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs.

    Attributes:
        url: Where.
        pid: Its process.
    """

    url: str
    pid: int

    @property
    def variables(self) -> dict[str, str]:
        """By which a run finds it, and is let in."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}


@contextlib.contextmanager
def served() -> Iterator[Server]:
    """Run one while the block runs."""
    words = [sys.executable, "-m", "tests.support.wandb_server"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip(), process.pid)
        finally:
            process.kill()
            process.wait(WAIT_S)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What its GraphQL interface says."""
    query, given = asked["query"], asked.get("variables", {})
    owner = {"id": "e", "name": "e"}
    if "UpsertBucket" in query:
        project = {"id": "p", "name": "oapl", "entity": owner}
        bucket = {"id": "b", "name": given.get("name") or "run", "config": "{}", "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}
    if "CreateRunFiles" in query:
        files = [{"name": name, "uploadUrl": f"/files/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
    return {"viewer": {"id": "u", "entity": "e", "username": "u", "flags": "{}"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        is_asked = self.path.startswith("/graphql")
        said = json.dumps({"data": answer(json.loads(body))} if is_asked else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()

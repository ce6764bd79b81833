"""A page in a real browser: Debian's Chromium without a screen, spoken to by DevTools' protocol.

Source: https://chromedevtools.github.io/devtools-protocol
"""

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 60.0
LARGEST_MESSAGE = 2**28
LISTENING = "DevTools listening on "


def program() -> str | None:
    """The browser's path; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """A tab of the browser.

    Attributes:
        errors: What the page has complained of: exceptions, errors on its console, refused loads.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session = ""
        self.errors: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, width: int, scheme: str, height: int = 900) -> None:
        """Load a file in a window of that width, for a reader who wants light or dark."""
        self.resize(width, scheme, height)
        self._call("Page.navigate", url=path.absolute().as_uri())
        self._until("Page.loadEventFired")

    def resize(self, width: int, scheme: str, height: int = 900) -> None:
        """Give the window another width and scheme."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """Save a picture of the whole page."""
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def _until(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> Any:
        message = json.loads(self._socket.recv(timeout=TIMEOUT_S))
        method, said = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.errors.append(str(said["args"]))
        return message


@contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a browser that is started for it, and ended after it."""
    found = program()
    assert found is not None, "look for `program()` first"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(found, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"),
                *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            address = next(
                (
                    line.removeprefix(LISTENING).strip()
                    for line in process.stderr
                    if line.startswith(LISTENING)
                ),
                None,
            )
            assert address, "the browser has ended before it listened"
            with connect(address, max_size=LARGEST_MESSAGE, open_timeout=TIMEOUT_S) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
            process.wait(timeout=TIMEOUT_S)

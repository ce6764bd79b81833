"""Another project's library, in an environment of its own: its pins need not agree with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library that is asked beside ours.

    Attributes:
        place: Of its environment.
        pins: What pip installs there.
        script: Reads what it is asked, as JSON, and prints its answers.
    """

    place: Path
    pins: Path
    script: Path

    def install(self) -> None:
        """Make the environment, unless it is there with these pins.

        Raises:
            CalledProcessError: It could not be made.
        """
        done = self.place / "pins.txt"
        if done.is_file() and done.read_text() == self.pins.read_text():
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", self.place], check=True)
        pip = [self._python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", self.pins], check=True)
        done.write_text(self.pins.read_text())

    def ask(self, asked: Any) -> dict[str, Any]:
        """Have the script answer.

        Args:
            asked: As JSON holds it.
        """
        done = subprocess.run(
            [self._python, "-P", self.script],
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        answers: dict[str, Any] = json.loads(done.stdout)
        return answers

    @property
    def _python(self) -> Path:
        return self.place / "bin" / "python"

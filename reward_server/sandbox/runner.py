"""The trusted side of the sandbox: hands programs to a warm zygote, takes what they say as data.

Invariants: the deadline is kept here, by a kill through the zygote, and if the zygote is silent for
a second after that, by killing the jail whole; what is read is capped; nothing that comes out is
loaded, only read as bytes or JSON. A sandbox belongs to the thread that started it (the kernel ends
the jail when that thread ends).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reward_server.sandbox.command import ENVIRONMENT, Bounds, command
from reward_server.sandbox.descriptors import MIB, Pipe, make_pipe, null, sealed
from reward_server.sandbox.levels import LAYERS_OF_LEVEL, Layers

START_TIMEOUT_S = 20.0
SILENCE_S = 1.0
MAX_REPORT = 4 * MIB


class SandboxError(RuntimeError):
    """The sandbox itself failed: our fault, not the program's."""


@dataclass(slots=True)
class Ending:
    """How a program ended.

    Attributes:
        status: Exit code; negative for a signal.
        output: What it wrote to standard output.
        report: What it said besides, as JSON; not to be believed.
        is_late: Killed at the deadline.
        is_flooding: Killed for writing too much.
        seconds: From request to end.
        rss_kib: Most memory in use.
        cpu_s: Processor time.
    """

    status: int = 0
    output: bytes = b""
    report: Mapping[str, Any] = field(default_factory=dict)
    is_late: bool = False
    is_flooding: bool = False
    seconds: float = 0.0
    rss_kib: int = 0
    cpu_s: float = 0.0


@dataclass(slots=True)
class Run:
    """A program on its way."""

    number: int
    output: Pipe
    report: Pipe
    done: Mapping[str, Any] | None = None
    is_flooding: bool = False
    is_killed: bool = False


class Sandbox:
    """A jail with a warm zygote.

    Args:
        layers: Those of a level (`levels.LAYERS_OF_LEVEL`), or any others.
        bounds: What each program may use.
        packages: What programs may import besides the standard library; imported beforehand.
    """

    def __init__(
        self,
        layers: Layers = LAYERS_OF_LEVEL["namespaces"],
        bounds: Bounds | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self._layers = layers
        self._bounds = bounds or Bounds()
        self._packages = packages
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._number = 0
        self.num_starts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the jail's outermost process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the jail and wait until it is warm.

        Raises:
            SandboxError: It does not start; the message says why.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as errors:
            try:
                self._process = subprocess.Popen(
                    command(self._layers, self._bounds, self._packages, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=ENVIRONMENT,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    start_new_session=True,  # a signal that asks the run to stop is not for it
                )
            except OSError as error:
                ours.close()
                raise SandboxError(f"the sandbox does not start: {error}") from error
            theirs.close()
            self._control = ours
            self.num_starts += 1
            hello = self._hear(time.monotonic() + START_TIMEOUT_S)
            if hello is None or "ready" not in hello:
                why = (hello or {}).get("failed") or _tail(errors)
                self.close()
                raise SandboxError(f"the sandbox does not start: {why}")

    def close(self) -> None:
        """Kill the jail, and all that is in it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def script(self, source: str, stdin: bytes, *, deadline: float, max_output: int) -> Ending:
        """Run a program as `__main__`.

        Args:
            source: The program.
            stdin: Its standard input.
            deadline: By the monotonic clock.
            max_output: Bytes, beyond which it is killed.

        Raises:
            SandboxError: The zygote died, or none could be started.
        """
        program = {"mode": "script", "source": source}
        (ending,) = self._run([(program, stdin, max_output)], deadline)
        return ending

    def function(
        self, source: str, prelude: str, path: str, args: Sequence[Any], *, deadline: float
    ) -> Ending:
        """Define a program and call it once; the report has the call's `value`, encoded.

        Args:
            source: The program.
            prelude: Stands before it.
            path: What is called: `name`, or `Class().name`.
            args: Its arguments, encoded.
            deadline: By the monotonic clock.

        Raises:
            SandboxError: The zygote died, or none could be started.
        """
        program = {
            "mode": "function",
            "source": source,
            "prelude": prelude,
            "entry": path,
            "args": list(args),
        }
        (ending,) = self._run([(program, b"", 0)], deadline)
        return ending

    def harness(
        self,
        source: str,
        prelude: str,
        tests: str,
        entry: str,
        *,
        tolerance: float,
        deadline: float,
    ) -> tuple[Ending, Ending]:
        """Run tests in one process against a program in another, which sees only its arguments.

        Args:
            source: The program.
            prelude: Stands before both.
            tests: Python that asserts.
            entry: The function that the tests check.
            tolerance: Error allowed in the numbers that it returns.
            deadline: By the monotonic clock.

        Returns:
            How the tests ended (their report has `passed` and `total`), and how the program did.

        Raises:
            SandboxError: The zygote died, or none could be started.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            program = {"mode": "serve", "source": source, "prelude": prelude}
            judge = {
                "mode": "harness",
                "source": tests,
                "prelude": prelude,
                "entry": entry,
                "tolerance": tolerance,
            }
            served, judged = self._run(
                [(program, b"", 0), (judge, b"", 0)], deadline, [theirs, ours]
            )
        return judged, served

    def _run(
        self,
        programs: Sequence[tuple[Mapping[str, Any], bytes, int]],
        deadline: float,
        channels: Sequence[socket.socket] = (),
    ) -> list[Ending]:
        """Run programs side by side; with channels, the last one's end is the end of all.

        Raises:
            SandboxError: The zygote died, or did not obey; a new one is started by the next call.
        """
        if self._control is None:
            self.start()
        started = time.monotonic()
        runs: list[Run] = []
        try:
            for index, (program, stdin, cap) in enumerate(programs):
                runs.append(self._send(program, stdin, cap, channels[index : index + 1]))
            for channel in channels:
                channel.close()
            self._attend(runs, deadline)
        except OSError as error:  # the zygote is gone
            self.close()
            raise SandboxError(f"the sandbox died ({error})") from error
        finally:
            for run in runs:
                os.close(run.output.reader)
                os.close(run.report.reader)
        seconds = time.monotonic() - started
        return [_ending(run, seconds, is_late=run.is_killed) for run in runs]

    def _send(
        self, program: Mapping[str, Any], stdin: bytes, cap: int, channel: Sequence[socket.socket]
    ) -> Run:
        assert self._control is not None
        self._number += 1
        with contextlib.ExitStack() as opened:
            output, output_end = make_pipe(opened, cap)
            report, report_end = make_pipe(opened, MAX_REPORT)
            source = sealed(opened, json.dumps(program).encode())
            given = sealed(opened, stdin) if stdin else null(opened)
            descriptors = [given, output_end, source, report_end]
            descriptors += [c.fileno() for c in channel]
            try:
                message = json.dumps({"run": self._number}).encode()
                socket.send_fds(self._control, [message], descriptors)
            except OSError:
                os.close(output.reader)
                os.close(report.reader)
                raise
        return Run(self._number, output, report)

    def _attend(self, runs: Sequence[Run], deadline: float) -> None:
        """Read, and kill at the deadline, until every run has ended."""
        assert self._control is not None
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        pipes = {}
        for run in runs:
            for pipe in (run.output, run.report):
                pipes[pipe.reader] = run, pipe
                poll.register(pipe.reader, select.POLLIN)
        patience: float | None = None  # until when a killed run must have ended
        while any(run.done is None for run in runs):
            now = time.monotonic()
            if patience is None and now >= deadline:
                patience = now + SILENCE_S
                for run in runs:
                    self._kill(run, is_late=True)
            if patience is not None and now >= patience:
                self.close()
                for run in runs:
                    run.done = run.done or {"status": int(signal.SIGKILL)}
                return
            until = deadline if patience is None else patience
            for descriptor, _ in poll.poll(max(0.0, until - now) * 1000 + 1):
                if descriptor == self._control.fileno():
                    self._note(runs)
                    continue
                run, pipe = pipes[descriptor]
                if not pipe.take():
                    poll.unregister(descriptor)
                    if len(pipe.data) > pipe.cap:
                        run.is_flooding = True
                        self._kill(run)
                        patience = patience or now + SILENCE_S
        for _, pipe in pipes.values():
            pipe.take()

    def _note(self, runs: Sequence[Run]) -> None:
        message = self._hear(time.monotonic() + SILENCE_S)
        if message is None:
            raise ConnectionError("its control socket closed")
        for run in runs:
            if message.get("done") == run.number:
                run.done = message
        if len(runs) > 1 and runs[-1].done is not None:  # the tests are over
            for run in runs[:-1]:
                self._kill(run)

    def _kill(self, run: Run, *, is_late: bool = False) -> None:
        if run.done is None and self._control is not None:
            run.is_killed |= is_late
            self._control.send(json.dumps({"kill": run.number}).encode())

    def _hear(self, until: float) -> dict[str, Any] | None:
        """The zygote's next word; None when it is gone or silent."""
        assert self._control is not None
        self._control.settimeout(max(0.001, until - time.monotonic()))
        try:
            text = self._control.recv(4096)
        except (TimeoutError, ConnectionError):
            return None
        return json.loads(text) if text else None


def _ending(run: Run, seconds: float, *, is_late: bool) -> Ending:
    assert run.done is not None
    return Ending(
        status=os.waitstatus_to_exitcode(run.done["status"]),
        output=bytes(run.output.data),
        report=_report(bytes(run.report.data)),
        is_late=is_late,
        is_flooding=run.is_flooding,
        seconds=seconds,
        rss_kib=int(run.done.get("rss_kib", 0)),
        cpu_s=float(run.done.get("cpu_s", 0.0)),
    )


def _report(data: bytes) -> Mapping[str, Any]:
    """The first line, if it is a JSON object."""
    line = data.partition(b"\n")[0]
    if not line:
        return {}
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _tail(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read()[-2000:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"

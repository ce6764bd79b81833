"""Where every process of a run stands: all stacks, in a file of the run folder.

A process that the run has started writes the stacks of its threads into its own log when it is sent
`SIGNAL`, by a handler in C that needs neither its event loop nor the interpreter's lock; it costs
nothing until then. What a coroutine waits for is no thread's stack: processes with an event loop
are asked for their tasks as well. Processes below them (vLLM's, the reward pool's) are told by
state alone, or by py-spy where it is installed.

Invariants: only a process whose standard output is the log that we gave it is sent the signal; a
process that is stopped, or on another machine, is named as such, never waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

SIGNAL = signal.SIGUSR2
FOLDER = "stacks"
KEPT = 20
"""Files of a run; the oldest go."""
ANSWER_S = 3.0
"""For tasks to be told and threads to be written."""
LOOK_S = 0.1
"""Between two looks at a log: nobody tells that it has grown."""
SPY_S = 20.0


_CALLS: dict[asyncio.Task[Any] | None, Awaitable[Any]] = {}


class Stuck(Protocol):
    """Of `deploy.processes.base.Process` what is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def actor(self) -> Any: ...


def arm() -> None:
    """Have this process write its stacks to its standard error when it is sent `SIGNAL`."""
    faulthandler.register(SIGNAL, file=2, all_threads=True, chain=False)


async def awaited(call: Awaitable[T]) -> T:
    """Await a call so that `of_tasks` finds it: Ray's coroutine around it tells no further.

    Args:
        call: What the current task is there for.
    """
    task = asyncio.current_task()
    _CALLS[task] = call
    try:
        return await call
    finally:
        del _CALLS[task]


def of_tasks() -> str:
    """What each task of the running loop waits for, from its outermost coroutine inwards, but for
    the one that asks."""
    lines: list[str] = []
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        chain = [*_chain(task.get_coro())]
        if task in _CALLS and _CALLS[task] not in chain:
            chain += _chain(_CALLS[task])
        lines += [f"Task {task.get_name()}", *map(_told, chain)]
    return "".join(f"{line}\n" for line in lines)


def _chain(inner: Any) -> Iterator[Any]:
    """Each coroutine, or generator, that waits for the next one."""
    while inner is not None:
        yield inner
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)


def _told(inner: Any) -> str:
    frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    place = f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, ' if frame else ""
    return f"  {place}in {name}"


def new_file(folder: Path) -> Path:
    """Name the file that is written next.

    Args:
        folder: The run's.
    """
    return folder / FOLDER / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}.txt"


async def write(path: Path, why: str, processes: Sequence[Stuck]) -> None:
    """Write where this process and the others stand.

    Args:
        path: From `new_file`.
        why: For its head.
        processes: That the run has started.
    """
    path.parent.mkdir(exist_ok=True)  # a run folder that was removed is not made again
    parts = [f"{why}\n", _of_this_process(path.parent)]
    logs = path.parent.parent / "logs"
    parts += await asyncio.gather(*(_told_of(process, logs) for process in processes))
    _keep(path, "\n".join(parts))


def _keep(path: Path, text: str) -> None:
    path.write_text(text)
    for old in sorted(path.parent.glob("2*.txt"))[:-KEPT]:
        old.unlink(missing_ok=True)


def _of_this_process(place: Path) -> str:
    with (place / ".driver").open("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        threads = file.read()
    (place / ".driver").unlink()
    return f"== the run itself (process {os.getpid()})\n{threads}\n-- tasks\n{of_tasks()}"


async def _told_of(process: Stuck, logs: Path) -> str:
    head = f"== {process.name} (process {process.pid})"
    log = logs / f"{process.name}.log"
    if not _is_ours(process.pid, log):
        return f"{head}: gone, or on another machine\n"
    try:
        return f"{head}\n{await _of(process, log)}"
    except OSError as error:  # the others are told all the same
        return f"{head}: it went meanwhile, or its log did ({error})\n"


async def _of(process: Stuck, log: Path) -> str:
    size = os.stat(log).st_size
    os.kill(process.pid, SIGNAL)
    tasks = await _tasks(process)
    threads = await _grown(log, size) or await _spied(process.pid) or "no stack: it is stopped\n"
    below = "".join(f"{line}\n" for line in _family(process.pid))
    return f"{below}-- threads\n{threads}\n-- tasks\n{tasks}"


def _is_ours(pid: int, log: Path) -> bool:
    """Whether the process writes to that log: its number may be another's by now, or elsewhere."""
    try:
        return os.path.samefile(f"/proc/{pid}/fd/1", log) and pid != os.getpid()
    except OSError:
        return False


async def _tasks(process: Stuck) -> str:
    ask = getattr(process.actor, "stacks", None)
    if ask is None:
        return "none: it has no event loop\n"
    try:
        async with asyncio.timeout(ANSWER_S):
            return str(await ask.remote())
    except Exception as error:  # noqa: BLE001 - why it cannot tell is what there is to tell
        return f"it does not tell ({type(error).__name__})\n"


async def _grown(log: Path, size: int) -> str:
    """What stands in the log behind `size`, once it has stopped growing."""
    text, ends_at = "", asyncio.get_running_loop().time() + ANSWER_S
    while asyncio.get_running_loop().time() < ends_at:
        await asyncio.sleep(LOOK_S)
        with log.open("rb") as file:
            file.seek(size)
            found = file.read().decode(errors="replace")
        if found and found == text:
            break
        text = found
    return text


async def _spied(pid: int) -> str:
    spy = shutil.which("py-spy")
    if spy is None:
        return ""
    command = [spy, "dump", "--pid", str(pid)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        made = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=SPY_S
        )
        return made.stdout
    return ""


def _family(pid: int, depth: int = 0) -> Iterator[str]:
    """A line for the process and each below it: what the kernel says that it does."""
    with contextlib.suppress(OSError, ValueError):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        waits = Path(f"/proc/{pid}/wchan").read_text() or "-"
        name, state = status["Name"], status["State"].strip()
        yield f"{'  ' * depth}{pid} {name}: {state}, {status['Threads']} threads, in {waits}"
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child), depth + 1)

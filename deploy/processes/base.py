"""What a run's processes are to those who start them, whoever runs them: Ray, or this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from oapl.errors import OaplError
from oapl.interfaces import Replay, RewardServer, Scorer, Trainer, Worker

H_co = TypeVar("H_co", covariant=True)
"""What a handle answers to: a Protocol of `oapl.interfaces`."""


@dataclass(frozen=True, slots=True)
class Process(Generic[H_co]):
    """A running object.

    Attributes:
        name: Of the process, its log file, and what errors call it.
        handle: Calls the object.
        pid: The operating system's process id, as it was when it was started.
        actor: The Ray actor that holds it, if one does.
    """

    name: str
    handle: H_co
    pid: int
    actor: Any = None


class Processes(Protocol):
    """Starts and ends a run's processes.

    Handles forward any method, which no type checker can follow: the overloads of `start` say which
    Protocol each role answers to, so that a call which that lacks is found before it is made.
    """

    @overload
    async def start(
        self, role: Literal["replay"], name: str, *, done: frozenset[str] | None = None
    ) -> Process[Replay]: ...

    @overload
    async def start(self, role: Literal["reward"], name: str) -> Process[RewardServer]: ...

    @overload
    async def start(
        self,
        role: Literal["worker"],
        name: str,
        *,
        index: int,
        incarnation: int,
        step: int,
        scorers: Sequence[Scorer],
        replay: Replay | None,
    ) -> Process[Worker]: ...

    async def start(self, role: Any, name: str, **kwargs: Any) -> Process[Any]:
        """Start one process.

        Args:
            role: What it does; `deploy.processes.roles.BUILDERS` says who makes it.
            name: Of the process.
            **kwargs: What its builder is given beside the configuration.

        Raises:
            DeadlineError: It found no place, or did not start in time.
            OaplError: What its builder raised.
        """

    async def start_ranks(self) -> list[Process[Trainer]]:
        """Start all learner ranks together, in the order of their ranks.

        Raises:
            DeadlineError: They found no place, or did not start in time.
            OaplError: What a builder raised.
        """

    async def ping(self, process: Process[Any]) -> int:
        """Return its process id when it answers: a restart changes it. Bounded by the caller; not
        for learner ranks, which compute."""

    async def replace(self, process: Process[Any]) -> None:
        """End a reward server, which is started again where it was: its handle stays good."""

    async def trouble(self, patience_s: float = 0.0) -> OaplError | None:
        """Find what has ended of that which the processes run on; None when all is well.

        Args:
            patience_s: How long something that may come back may be away; 0 for as long as it may.
        """

    async def write_stacks(self, path: Path, why: str) -> None:
        """Write where every process stands; see `deploy.processes.stacks.write`.

        Args:
            path: The file.
            why: For its head.
        """

    async def kill(self, process: Process[Any]) -> None:
        """End a process now, whatever it does."""

    async def close(self) -> None:
        """End every process that was started here."""

"""How long a run's processes live, and what ends what is awaited of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Any, TypeVar

from deploy.processes.base import Processes
from deploy.processes.launch import connect
from deploy.processes.on_ray import FAREWELL_S
from deploy.run.signals import Stop
from deploy.run.stalls import told
from oapl.config import RunConfig
from oapl.config.objective import Purpose
from oapl.remote.waiting import in_thread_of_its_own, within

T = TypeVar("T")

CLOSE_TIMEOUT_S = 60.0


@contextlib.asynccontextmanager
async def processes_of(
    config: RunConfig, stop: Stop, purpose: Purpose = "train", *, is_again: bool = False
) -> AsyncIterator[Processes]:
    """Start and, at the end, end processes. What goes wrong because Ray itself has ended is told as
    that.

    Args:
        config: The run.
        stop: Ends the wait for a cluster.
        purpose: What the processes are for.
        is_again: They follow others that were lost: a node that went with them may come back within
            `cluster.start_timeout_s`.
    """
    patience_s = config.cluster.start_timeout_s if is_again else 0.0
    connecting = in_thread_of_its_own(partial(connect, config, purpose, patience_s), stays=True)
    async with stop.rearmed():
        processes = await stop.unless_asked(connecting)
    try:
        async with told(config.sync.stall_s, config.folder, stop.tell, processes):
            yield processes
    except Exception as error:
        if trouble := await processes.trouble(FAREWELL_S):
            raise trouble from error
        raise
    finally:
        async with stop.rearmed():
            await within(CLOSE_TIMEOUT_S, processes.close(), "the run's processes to end")


async def unless_failed(failures: Sequence[asyncio.Future[None]], act: Awaitable[T]) -> T:
    """Await `act`, and end it when the run has failed beside it.

    Args:
        failures: Set to an exception when the run cannot go on.
        act: Cancelled here, and its end awaited.
    """
    acting = asyncio.ensure_future(act)
    try:
        waiting: set[asyncio.Future[Any]] = {acting, *failures}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for failure in failures:
            if failure in done:
                failure.result()
        return acting.result()
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)

"""Whether Ray starts, where asked to try, and what runs would join."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from deploy.doctor.finding import Finding
from oapl.errors import first_line

AREA = "ray"
TASK_TIMEOUT_S = 60.0


def look(start: bool) -> Iterator[Finding]:
    """Try to start Ray where that is asked for, because it takes seconds.

    Args:
        start: Start a local Ray and end it again.
    """
    if not start:
        text = "not started; `oapl doctor --ray` tries it (about 10 s)"
        yield Finding(area=AREA, name="start", found=text)
    else:
        yield _ray_starts()
    if address := os.environ.get("RAY_ADDRESS"):
        yield Finding(
            area=AREA,
            name="RAY_ADDRESS",
            found=f"{address}: runs without a cluster.address join it",
            level="note",
            remedy="unset it to start Ray on this machine",
        )


def _ray_starts() -> Finding:
    from deploy.processes.ray_cluster import start_local_ray

    started = time.monotonic()
    ray = None
    try:
        ray = start_local_ray(num_cpus=1)
        answer = ray.get(ray.remote(_process_id).remote(), timeout=TASK_TIMEOUT_S)
    except _failures_of_a_start() as error:
        return Finding(
            area=AREA,
            name="start",
            found=f"{type(error).__name__}: {first_line(error)}",
            level="wrong",
            remedy="read the newest logs under /tmp/ray/session_latest/logs; a full disk, a small "
            "/dev/shm or a proxy are the usual causes",
        )
    finally:
        if ray is not None:
            ray.shutdown()
    took = time.monotonic() - started
    return Finding(area=AREA, name="start", found=f"works: process {answer} ran after {took:.1f} s")


def _process_id() -> int:
    return os.getpid()


def _failures_of_a_start() -> tuple[type[BaseException], ...]:
    """What a start of Ray raises; Ray's own errors are known only once it is imported."""
    plain = (ImportError, OSError, RuntimeError, ValueError)
    ray = sys.modules.get("ray")
    return plain if ray is None else (*plain, ray.exceptions.RayError)

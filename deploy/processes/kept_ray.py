"""A Ray that outlives who started or joined it: the stages of a run follow one another on it.

Invariants: what began inside `kept` ends with it; a Ray that was there before is left alone, and so
is one of which a part has died.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.processes import ray_cluster


@dataclass(slots=True)
class Kept:
    """What there is to use again.

    Attributes:
        ray: The module, connected; None where nothing is.
        store_bytes: Of the object store that was asked for here; 0 of a cluster that was joined.
    """

    ray: Any = None
    store_bytes: int = 0

    def end(self) -> None:
        """Leave it; it ends where it was started here."""
        if self.ray is not None:
            self.ray.shutdown()
            self.ray = None


_KEPT: list[Kept] = []
"""The one of this process, if any: Ray itself is one a process."""


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep a Ray that is started or joined inside for whoever needs one next, until the end."""
    if _KEPT or ray_cluster.is_running():
        yield
        return
    mine = Kept()
    _KEPT.append(mine)
    try:
        yield
    finally:
        _KEPT.remove(mine)
        mine.end()


def current() -> Kept | None:
    """What is kept now; None where nothing shall be."""
    return _KEPT[0] if _KEPT else None

"""Something that goes on beside a thread's own work, and is asked for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Calls something in a thread, which does not keep the process from ending.

    Args:
        act: Called once; what it raises is raised by `check`.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def is_over(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended.

        Args:
            patience_s: Wait for at most so long.
        """
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what it raised."""
        if self._error is not None:
            raise self._error

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
            self._error = error

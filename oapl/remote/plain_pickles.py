"""Files of records that are read without running code: pickles of a closed list of classes.

A pickle may name any function and have it called. Here what it may name is our own records,
counters, and what NumPy makes arrays of; a name beside these is refused when it is read, and its
class already when it is written, so that nothing is saved that could not be read again.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

RECORDS = "oapl.records"
"""Whose dataclasses may stand in a file."""
NAMED = {
    *(("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
    ("decimal", "Decimal"),
    *(("numpy", name) for name in ("dtype", "ndarray")),
    *(("numpy._core.multiarray", name) for name in ("_reconstruct", "scalar")),
    ("numpy._core.numeric", "_frombuffer"),
    ("oapl.counters", "Counters"),
    ("oapl.counters", "Moments"),
    ("oapl.remote.pickling", "_restored"),
    ("oapl.replay.counts", "ReplayCounts"),
    ("oapl.replay.stored", "_Draw"),
    ("uuid", "UUID"),
}
"""Beside them: module and name."""
OF_NUMPY = (np.generic, np.dtype)
PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset)


class Refused(pickle.UnpicklingError):
    """A class that is on no list."""


def dumps(value: Any) -> bytes:
    """Write records, and containers of them.

    Args:
        value: Of `PLAIN`, arrays and what is on the lists.

    Raises:
        Refused: Something in them is of a class that would not be read again.
    """
    held = io.BytesIO()
    _Pickler(held).dump(value)
    return held.getvalue()


def loads(content: bytes) -> Any:
    """Read what `dumps` wrote, or a pickle of the same.

    Args:
        content: The whole of it.

    Raises:
        Refused: It names something else; that is neither imported nor called.
        Exception: What `pickle` raises of a file that is damaged, or of another build.
    """
    return _Unpickler(io.BytesIO(content)).load()


def _is_listed(module: str, name: str) -> bool:
    return (module, name) in NAMED or (module == RECORDS and "." not in name)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        kind = value if isinstance(value, type) else type(value)
        module, name = kind.__module__, kind.__qualname__
        if callable(value) and not isinstance(value, type):  # a function that makes a record
            module, name = value.__module__, value.__qualname__
        if kind in PLAIN or _is_listed(module, name) or issubclass(kind, OF_NUMPY):
            return NotImplemented
        raise Refused(f"{module}.{name} is neither text, number, nor a record of oapl")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look up a name that the pickle has called.

        Args:
            module, name: As it names it.

        Raises:
            Refused: It is on no list.
        """
        if not _is_listed(module, name):
            raise Refused(f"it names {module}.{name}, which is no record of this version")
        found = super().find_class(module, name)
        if module == RECORDS and not hasattr(found, "__dataclass_fields__"):
            raise Refused(f"it names {module}.{name}, which is no record")
        return found

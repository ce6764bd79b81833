"""How the records that travel most are pickled: by position, and arrays as their bytes.

A dataclass walks over its fields slowly, and NumPy's own pickle of an array costs more than all the
rest of a rollout: this takes a third of the time.

Invariants: what is read is what was written, and its arrays are read-only, as everything in a
record should be; records whose `__post_init__` checks something do not come this way, because
reading a pickle sets the fields without it.
"""

from __future__ import annotations

import copyreg
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from itertools import repeat
from operator import attrgetter, call
from typing import Any, NamedTuple, TypeVar

import numpy as np

R = TypeVar("R")


class _Layout(NamedTuple):
    """Where a record's fields lie: one setter each, and the positions of its arrays."""

    setters: tuple[Callable[[Any, Any], None], ...]
    arrays: tuple[int, ...]


_LAYOUTS: dict[type, _Layout] = {}


def compact_pickle(*arrays: str) -> Callable[[type[R]], type[R]]:
    """Decorator of a frozen, slotted dataclass that is pickled often.

    Registered with `copyreg`, which also spares Ray's pickler the walk to `__reduce__`. It does not
    reach subclasses: they pickle as dataclasses do.

    Args:
        arrays: Fields that hold a one-dimensional array or None.
    """

    def decorate(record: type[R]) -> type[R]:
        assert not hasattr(record, "__post_init__"), f"{record.__name__} checks its fields"
        names = [field.name for field in fields(record)]  # type: ignore[arg-type]
        values_of = attrgetter(*names)
        setters = tuple(getattr(record, name).__set__ for name in names)
        positions = tuple(names.index(name) for name in arrays)
        _LAYOUTS[record] = _Layout(setters=setters, arrays=positions)

        def plain(self: R) -> tuple[Any, ...]:
            return _restored, (record, values_of(self))

        def with_arrays(self: R) -> tuple[Any, ...]:
            values = [*values_of(self)]
            for position in positions:
                array = values[position]
                if array is not None:
                    values[position] = (_spelled(array.dtype), array.tobytes())
            return _restored, (record, values)

        copyreg.pickle(record, with_arrays if arrays else plain)  # type: ignore[arg-type]
        return record

    return decorate


def _restored(record: type[R], values: Any) -> R:
    """`values` is a list that nobody else holds where there are arrays, else a tuple."""
    setters, arrays = _LAYOUTS[record]
    for position in arrays:
        packed = values[position]
        if packed is not None:
            values[position] = np.frombuffer(packed[1], packed[0])
    if len(values) != len(setters):
        raise ValueError(f"{len(values)} fields of a {record.__name__}, which has {len(setters)}")
    restored = object.__new__(record)
    _call_all(map(call, setters, repeat(restored), values))  # a loop takes twice as long
    return restored


_call_all = deque[None](maxlen=0).extend


@cache
def _spelled(dtype: np.dtype[Any]) -> str:
    """NumPy spells it anew each time, which takes longer than to copy the array."""
    return dtype.str

"""Strikes inside a process of a run: Python imports this by itself where PYTHONPATH has its folder.

A place of `tests.chaos.places` is one function of the product. Where a file of its name lies in
`$OAPL_CHAOS/armed`, the next call (or the one that the file says) does what the file says: once, in
one process, and with a note of its process id left in `$OAPL_CHAOS/fired` before it does it. A file
that names a prompt strikes at each call for that. What a deed tells after which the process goes on
is left there too, once it is done. Numbers of the product that `$OAPL_CHAOS/numbers` names are set.
"""

import importlib.abc
import importlib.util
import os
import sys
import time

FOLDER = os.environ.get("OAPL_CHAOS", "")


def _strike(place, args):
    armed = f"{FOLDER}/armed/{place}"
    try:
        with open(armed) as file:
            act, left, *word = file.read().split()
    except (OSError, ValueError):
        return
    if word:  # each call for that prompt is struck
        if len(args) > 1 and word[0] in getattr(args[1], "text", ""):
            with open(f"{FOLDER}/fired/{place}", "w") as file:
                file.write(f"{act} {os.getpid()} {time.time()}")
            _ACTS[act]()
        return
    if int(left) > 1:
        with open(armed, "w") as file:
            file.write(f"{act} {int(left) - 1}")
        return
    mine = f"{FOLDER}/fired/{place}.{os.getpid()}"
    try:
        os.rename(armed, mine)
    except FileNotFoundError:  # another process was struck
        return
    with open(mine, "w") as file:
        file.write(f"{act} {os.getpid()} {time.time()}")
    os.rename(mine, f"{FOLDER}/fired/{place}")
    told = _ACTS[act]()
    with open(f"{mine}.part", "w") as file:
        file.write(told or "done")
    os.rename(f"{mine}.part", f"{FOLDER}/fired/{place}.done")


def _hold_the_gil():
    """For ever: a sleep would end with the signal by which a process is asked for its stacks."""
    import ctypes

    lock = ctypes.create_string_buffer(64)  # a pthread_mutex_t, not recursive
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(lock)


def _fail():
    raise RuntimeError("struck")


def _fill_the_disk():
    written, folder = 0, os.environ["OAPL_CHAOS_DISK"]
    with open(f"{folder}/filler", "ab", buffering=0) as file:
        try:
            while True:
                written += file.write(b"0" * 4096)
        except OSError as error:
            return f"{error.strerror} after {written:,} bytes"


def _fill_the_store():
    """With more than it holds, which stays referenced for as long as this process lives."""
    import numpy
    import ray

    whole, block = int(ray.cluster_resources()["object_store_memory"]), 32 * 2**20
    while sum(map(len, _HELD)) * block < 1.25 * whole:
        _HELD.append([ray.put(numpy.full(block, len(_HELD), dtype=numpy.uint8))])
    return f"{len(_HELD) * block:,} bytes put into a store of {whole:,}"


_HELD = []


def _refuse():
    import ray

    raise ray.exceptions.ObjectStoreFullError("struck")


def _self(number):
    return lambda: os.kill(os.getpid(), number)


_ACTS = {
    "kill": _self(9),
    "stop": _self(19),
    "exit": lambda: os._exit(3),
    "gil": _hold_the_gil,
    "raise": _fail,
    "fill_disk": _fill_the_disk,
    "fill_store": _fill_the_store,
    "refuse": _refuse,
}


def _wrap(module, place, dotted):
    owner, _, name = dotted.rpartition(".")
    holder = module
    for part in owner.split(".") if owner else ():
        holder = getattr(holder, part)
    inner = getattr(holder, name)

    def struck(*args, **kwargs):
        _strike(place, args)
        return inner(*args, **kwargs)

    struck.__name__, struck.__doc__ = name, inner.__doc__
    setattr(holder, name, struck)


def _sleep_by_select():
    """Under libfaketime 0.9.10 with a true monotonic clock, `time.sleep` raises EINVAL."""
    import select

    time.sleep = lambda seconds: select.select((), (), (), seconds) and None


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the functions, and sets the numbers, as their module is loaded."""

    def __init__(self, places, numbers):
        self._by_module, self._numbers = {}, {}
        for place, target in places.items():
            module, _, dotted = target.partition(":")
            self._by_module.setdefault(module, []).append((place, dotted))
        for target, number in numbers.items():
            module, _, name = target.partition(":")
            self._by_module.setdefault(module, [])
            self._numbers.setdefault(module, {})[name] = int(number)

    def find_spec(self, name, path=None, target=None):
        wanted = self._by_module.pop(name, None)
        if wanted is None:
            return None
        spec = importlib.util.find_spec(name)
        inner = spec.loader.exec_module

        def load(module):
            inner(module)
            for place, dotted in wanted:
                _wrap(module, place, dotted)
            for number, value in self._numbers.get(name, {}).items():
                setattr(module, number, value)

        spec.loader.exec_module = load
        return spec


def _read(name):
    try:
        with open(f"{FOLDER}/{name}") as file:
            return dict(line.split() for line in file)
    except OSError:
        return {}


if FOLDER and os.path.exists(f"{FOLDER}/places"):
    sys.meta_path.insert(0, _Finder(_read("places"), _read("numbers")))
if "FAKETIME" in os.environ:
    _sleep_by_select()

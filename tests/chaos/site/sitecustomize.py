"""Strikes inside a process of a run: Python imports this by itself where PYTHONPATH has its folder.

A place of `tests.chaos.places` is one function of the product. Where a file of its name lies in
`$OAPL_CHAOS/armed`, the next call (or the one that the file says) does what the file says: once, in
one process, and with a note of its process id left in `$OAPL_CHAOS/fired` before it does it. A file
that names a prompt strikes at each call for that.
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
    _ACTS[act]()


def _hold_the_gil():
    import ctypes

    ctypes.PyDLL(None).sleep(36000)


def _fail():
    raise RuntimeError("struck")


def _self(number):
    return lambda: os.kill(os.getpid(), number)


_ACTS = {
    "kill": _self(9),
    "stop": _self(19),
    "exit": lambda: os._exit(3),
    "gil": _hold_the_gil,
    "raise": _fail,
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


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the functions as their module is loaded."""

    def __init__(self, places):
        self._by_module = {}
        for place, target in places.items():
            module, _, dotted = target.partition(":")
            self._by_module.setdefault(module, []).append((place, dotted))

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

        spec.loader.exec_module = load
        return spec


def _places():
    with open(f"{FOLDER}/places") as file:
        return dict(line.split() for line in file)


if FOLDER and os.path.exists(f"{FOLDER}/places"):
    sys.meta_path.insert(0, _Finder(_places()))

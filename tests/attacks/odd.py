"""Odd but correct programs: what they read, and what they must print. All of these must pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Odd:
    """A correct program that a careless sandbox refuses; `at_least`: the weakest level for it."""

    what: str
    source: str
    stdin: str = "3 4\n"
    expected: str = "7\n"
    at_least: str = "seccomp"


ADD = "a, b = map(int, input().split())\n"

CORRECT = (
    Odd("reads bytes", "import sys; print(sum(map(int, sys.stdin.buffer.read().split())))"),
    Odd("opens descriptor 0", "print(sum(map(int, open(0).read().split())))"),
    Odd("reads descriptor 0", "import os; print(sum(map(int, os.read(0, 100).split())))"),
    Odd("asks for the size of its input",
        "import os; print(sum(map(int, os.read(0, os.fstat(0).st_size).split())))"),
    Odd("iterates over its input", "import sys\nfor l in sys.stdin: print(sum(map(int, l.split())))"),
    Odd("reads until the end", "t = 0\ntry:\n while True: t += sum(map(int, input().split()))\n"
        "except EOFError: print(t)", "3\n4\n"),
    Odd("calls exit", ADD + "print(a + b); exit()"),
    Odd("calls quit", ADD + "print(a + b); quit(0)"),
    Odd("exits by sys", "import sys\n" + ADD + "print(a + b); sys.exit(0)"),
    Odd("prints at its end", "import atexit\n" + ADD + "atexit.register(lambda: print(a + b))"),
    Odd("writes to descriptor 1", "import os\n" + ADD + "os.write(1, str(a + b).encode())"),
    Odd("writes bytes", "import sys\n" + ADD + "sys.stdout.buffer.write(b'%d' % (a + b))"),
    Odd("buffers its output", "import atexit, io, sys\nout = io.StringIO(); sys.stdout = out\n"
        "atexit.register(lambda: sys.__stdout__.write(out.getvalue()))\n" + ADD + "print(a + b)"),
    Odd("recurses in a thread with a big stack",
        "import sys, threading\nsys.setrecursionlimit(1 << 20); threading.stack_size(1 << 27)\n"
        "def f(n): return n and 1 + f(n - 1)\n"
        "def main():\n a, b = map(int, input().split()); print(f(50000) - 50000 + a + b)\n"
        "t = threading.Thread(target=main); t.start(); t.join()"),
    Odd("recurses deeply", "import sys; sys.setrecursionlimit(10**6)\n"
        "def f(n): return n and 1 + f(n - 1)\n" + ADD + "print(f(50000) - 50000 + a + b)"),
    Odd("leaves a thread to end by itself", "import threading, time\n" + ADD
        + "threading.Thread(target=lambda: (time.sleep(0.05), print(a + b))).start()"),
    Odd("uses a pool of threads", "from concurrent.futures import ThreadPoolExecutor\n" + ADD
        + "with ThreadPoolExecutor(4) as p: print(sum(p.map(int, (a, b))))"),
    Odd("is asynchronous", "import asyncio\nasync def main():\n await asyncio.sleep(0.01)\n"
        " print(sum(map(int, input().split())))\nasyncio.run(main())"),
    Odd("sets its own stack limit",
        "import resource\nresource.setrlimit(resource.RLIMIT_STACK, "
        "(resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n" + ADD + "print(a + b)"),
    Odd("sets an alarm", "import signal; signal.alarm(10)\n" + ADD + "print(a + b)"),
    Odd("tries a file first", "import sys\ntry: sys.stdin = open('input.txt')\n"
        "except OSError: pass\n" + ADD + "print(a + b)"),
    Odd("silences its errors", "import os, sys\nsys.stderr = open(os.devnull, 'w')\n" + ADD
        + "print(a + b)\nprint('debug', file=sys.stderr)", at_least="landlock"),
    Odd("logs to standard error", "import logging; logging.warning('x')\n" + ADD + "print(a + b)"),
    Odd("tries to start a program", "import subprocess\ntry: subprocess.run(['nproc'])\n"
        "except OSError: pass\n" + ADD + "print(a + b)"),
    Odd("tries to open a socket", "import socket\ntry: socket.socket()\nexcept OSError: pass\n" + ADD
        + "print(a + b)"),
    Odd("pickles its own class", "import pickle\nclass P:\n def __init__(s, x): s.x = x\n" + ADD
        + "print(pickle.loads(pickle.dumps(P(a))).x + b)"),
    Odd("asks for its own annotations", "import dataclasses, typing\n@dataclasses.dataclass\nclass P:\n"
        " x: 'int'\nassert typing.get_type_hints(P)\n" + ADD + "print(P(a).x + b)"),
    Odd("runs as main", "def main():\n " + ADD + " print(a + b)\nif __name__ == '__main__': main()"),
    Odd("prints a number of 6000 digits", "print(10**6000)", "", "1" + "0" * 6000),
    Odd("prints other scripts", "print('été 漢')", "", "été 漢\n"),
    Odd("ends its lines as Windows does", ADD + "print(a + b, end='\\r\\n')", "3 4\r\n"),
    Odd("leaves blanks", ADD + "print(a + b, end='  \\n\\n')"),
    Odd("uses what the standard library has", "import bisect, cmath, collections, copy, datetime, "
        "decimal, fractions, functools, hashlib, heapq, itertools, json, math, numbers, operator, "
        "queue, random, re, statistics, string, struct, textwrap, time, zlib\n" + ADD + "print(a + b)"),
    Odd("waits for itself", "import select, time\nselect.select([], [], [], 0.01); time.sleep(0.01)\n"
        + ADD + "print(a + b)"),
    Odd("uses half a gigabyte", "x = bytearray(500 << 20)\n" + ADD + "print(a + b)"),
    Odd("reads much", "import sys; print(sum(map(int, sys.stdin.read().split())))",
        "1 " * 300_000, "300000\n"),
    Odd("prints much", "print('7\\n' * 200000)", "", "7\n" * 200_000),
    Odd("evaluates text", ADD + "exec('c = a + b'); print(eval('c'))"),
    Odd("knows where it is", "import os; os.path.abspath(__file__); os.getcwd(); os.cpu_count()\n" + ADD
        + "print(a + b)"),
    Odd("kills itself when done", "import os, sys\n" + ADD + "print(a + b); sys.stdout.flush(); os._exit(0)"),
)  # fmt: skip

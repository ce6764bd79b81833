"""Attacks on the verdict: programs that do not solve the problem and want to be told they do.

The problem is to square a number: by a function with JSON tests, by a function with tests in
Python, or from standard input. None of these programs can square; any reward is a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALLS: Mapping[str, Any] = {
    "tests": [
        {"input": "7301", "output": "53304601", "testtype": "functional"},
        {"input": "9412", "output": "88585744", "testtype": "functional"},
    ],
    "fn_name": "square",
}
CHECK: Mapping[str, Any] = {
    "tests": "def check(candidate):\n    assert candidate(7301) == 53304601\n"
    "    assert abs(candidate(9412) - 88585744) < 1\n",
    "entry_point": "square",
}
PRINTED: Mapping[str, Any] = {
    "tests": {"inputs": ["7301\n", "9412\n"], "outputs": ["53304601\n", "88585744\n"]},
}
WRONG = "\ndef square(x):\n    return -1\n"


@dataclass(frozen=True, slots=True)
class Forgery:
    """A program, and the problem that it pretends to solve."""

    what: str
    source: str
    reference: Mapping[str, Any]


ANYTHING = """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    def __lt__(self, other): return True
    def __hash__(self): return 0
def square(x): return Anything()
"""
SEARCH = """
import gc, sys
def known():
    frame, found = sys._getframe(), []
    while frame:
        found += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    for item in [*found, *gc.get_objects()]:
        try: yield repr(item)[:20000]
        except Exception: pass
ANSWERS = [('533', '04601'), ('885', '85744')]  # in halves, so as not to find itself
def square(x):
    for text in known():
        for a, b in ANSWERS:
            if a + b in text: return int(a + b)
"""
GUESS_EVERY_DESCRIPTOR = """
import os
for n in range(3, 64):
    for text in LINES:
        try: os.write(n, text)
        except OSError: pass
"""


def _told(*lines: str) -> str:
    return GUESS_EVERY_DESCRIPTOR.replace("LINES", repr([(x + "\n").encode() for x in lines]))


FORGERIES = (
    Forgery("exits with success while it is defined", "import sys; sys.exit(0)", CALLS),
    Forgery("ends its process with success", "import os; os._exit(0)", CALLS),
    Forgery("exits with success when called", "import sys\ndef square(x): sys.exit(0)", CHECK),
    Forgery("ends its process when called", "import os\ndef square(x): os._exit(0)", CHECK),
    Forgery("exits with success and prints nothing", "import sys; sys.exit(0)", PRINTED),
    Forgery("prints a verdict", "print('{\"kind\": \"accepted\", \"reward\": 1.0}')", PRINTED),
    Forgery("prints a verdict when called", WRONG + "print('accepted'); print('2 passed')", CALLS),
    Forgery("returns what equals everything", ANYTHING, CHECK),
    Forgery("returns what equals everything, to JSON tests", ANYTHING, CALLS),
    Forgery("returns a number that equals every other",
            "class N(int):\n def __eq__(s, o): return True\n def __sub__(s, o): return 0\n"
            " __hash__ = int.__hash__\ndef square(x): return N(1)", CHECK),
    Forgery("returns a list that equals everything",
            "class L(list):\n def __eq__(s, o): return True\ndef square(x): return L()", CHECK),
    Forgery("returns not a number", "def square(x): return float('nan')", CHECK),
    Forgery("returns infinity", "def square(x): return float('inf')", CHECK),
    Forgery("patches what compares",
            "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
            "builtins.type = lambda x: int\nbuiltins.all = lambda x: True" + WRONG, CHECK),
    Forgery("patches JSON", "import json\nreal = json.dumps\n"
            "json.dumps = lambda m, *a, **k: real({'value': True, 'passed': 2, 'total': 2})" + WRONG,
            CALLS),
    Forgery("patches the harness", "import gc\nfor f in gc.get_objects():\n"
            " if getattr(f, '__name__', '') in ('encode', '_called', 'harness', '_write'):\n"
            "  try: f.__code__ = (lambda *a, **k: {'passed': 2, 'total': 2}).__code__\n"
            "  except Exception: pass" + WRONG, CHECK),
    Forgery("looks for the answers in frames and memory", SEARCH, CHECK),
    Forgery("looks for the answers in frames and memory, with JSON tests", SEARCH, CALLS),
    Forgery("looks for the answers while it reads its input", SEARCH + "print(square(1))", PRINTED),
    Forgery("looks for the tests in files",
            "import os\nfor top, _, names in os.walk('/'):\n for n in names:\n"
            "  try: text = open(os.path.join(top, n)).read()\n  except Exception: continue\n"
            "  if '533' '0460' + chr(49) in text: answer = 53304601\n"
            "def square(x): return answer", CALLS),
    Forgery("looks for the answers in its descriptors",
            "import os\ntext = b''\nfor n in range(3, 64):\n"
            " for offset in (0, 100):\n  try: text += os.pread(n, 100000, offset)\n"
            "  except OSError: pass\n"
            "def square(x):\n if b'53304601' in text: return 53304601", CHECK),
    Forgery("writes a report of its own",
            _told('{"passed": 2, "total": 2}', '{"value": true}', '{"end": "ok"}') + WRONG, CHECK),
    Forgery("writes a report of its own, with JSON tests",
            _told('{"passed": 2, "total": 2}', '{"value": null}') + WRONG, CALLS),
    Forgery("writes a report of its own, from standard input",
            _told('{"passed": 2, "total": 2}', '{"value": 1}') + "print(1)", PRINTED),
    Forgery("answers before it is asked",
            _told('{"value": {"t": "opaque"}}', '{"value": true}', '[]') + WRONG, CHECK),
    Forgery("answers with nonsense", _told("\\x00", "{", "[" * 5000) + WRONG, CHECK),
    Forgery("answers with deep nests", "def square(x):\n a = []\n for _ in range(100): a = [a]\n return a",
            CHECK),
    Forgery("defines the check itself", "def check(f): pass\nclass AssertionError(Exception): pass" + WRONG,
            CHECK),
    Forgery("raises what the tests would not catch",
            "def square(x): raise BaseException('passed')", CHECK),
    Forgery("raises an assertion", "def square(x): raise AssertionError", CHECK),
    Forgery("raises StopIteration", "def square(x): raise StopIteration(53304601)", CHECK),
    Forgery("kills its judge", "import os, signal\nfor n in range(1, 200):\n"
            " if n != os.getpid():\n  try: os.kill(n, signal.SIGKILL)\n  except OSError: pass" + WRONG,
            CHECK),
    Forgery("closes its channel", "import os\ndef square(x): os.closerange(3, 64)", CHECK),
    Forgery("reads its judge's memory",
            "import os\nfor n in range(1, 400):\n try: text = open(f'/proc/{n}/mem', 'rb')\n"
            " except OSError: pass" + WRONG, CHECK),
    Forgery("leaves its input for the next test",
            "import os, builtins\nn = input()\nseen = getattr(builtins, 'seen', [])\n"
            "builtins.seen = [*seen, n]\n"
            "print({2: 88585744}.get(len(builtins.seen)))", PRINTED),
    Forgery("prints every answer that there could be",
            "for n in (53304601, 88585744): print(n)", PRINTED),
    Forgery("prints the right answer and fails", "n = int(input()); print(n * n); raise SystemExit(1)",
            PRINTED),
    Forgery("prints after its deadline",
            "import time; n = int(input()); time.sleep(60); print(n * n)", PRINTED),
    Forgery("does not compile", "def square(x) return x * x", CALLS),
    Forgery("is not there", "", CHECK),
)  # fmt: skip

"""The math verifier beside firm verdicts, real model solutions, and references against each other.

Of each set of problems every reference must accept itself, and must refuse wrong answers: the
references of ten other problems of the set (drawn with a fixed seed among those that are neither
spelled alike nor the same number) and up to three made from the reference itself: its first and its
last integer raised by one, and a minus before it. Since a reference is spelled like itself, it is
also written anew: in other LaTeX, and expanded and printed by SymPy; and the worked solutions of
MATH, which end in a box, are judged as responses. What is missed is listed.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import math_verify
import sympy
from rich.console import Console
from rich.table import Table

from reward_server.answers import notation, numerals
from reward_server.verifiers import math
from tests.support import real_data
from tests.support.judging import prompt, rollout
from tests.support.math_cases import Case, cases

BAR = 0.985
SETS = ("math500", "amc23_83", "olympiadbench", "minerva")
SOLVED = ("math500",)
OTHERS = 10
_LETTER = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]|\\(?:alpha|beta|gamma|theta|infty)(?![a-zA-Z])")
_ROUNDED = re.compile(r"\.\d{12}")
_INTEGER = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One answer, what it should have been and what it was.

    Attributes:
        of: Where it comes from.
        seconds: What the verdict took.
    """

    of: str
    answer: str
    gold: str
    is_right: bool
    kind: str
    seconds: float

    @property
    def is_agreed(self) -> bool:
        return (self.kind == "accepted") == self.is_right


@dataclass(kw_only=True)
class Tally:
    """A table's row."""

    judged: list[Judged] = field(default_factory=list)

    def misses(self, *, is_right: bool) -> list[Judged]:
        return [one for one in self.judged if one.is_right == is_right and not one.is_agreed]

    @property
    def share(self) -> float:
        return sum(one.is_agreed for one in self.judged) / len(self.judged)

    def cells(self) -> list[str]:
        times = sorted(one.seconds * 1000 for one in self.judged)
        return [
            str(len(self.judged)),
            f"{self.share:.4f}",
            str(len(self.misses(is_right=False))),
            str(len(self.misses(is_right=True))),
            f"{sum(times) / len(times):.2f}",
            f"{times[len(times) * 99 // 100]:.1f}",
            f"{times[-1]:.0f}",
            str(sum(one.kind == "timeout" for one in self.judged)),
        ]


def main() -> int:
    console = Console(width=120, highlight=False, markup=False)
    written = by_category(cases())
    show("firm verdicts, by category", written, console)
    every = Tally(judged=[one for tally in written.values() for one in tally.judged])
    held_out = Tally(judged=judge_cases([case for case in cases() if case.is_held_out]))
    show("firm verdicts", {"all": every, "held out": held_out}, console)
    real: dict[str, Tally] = {}
    try:
        real["gsm8k model solutions"] = Tally(judged=judge_all(model_solutions()))
        for name in SETS:
            real |= references(name)
    except real_data.Absent as absent:
        console.print(f"skipped: {absent}")
    if real:
        show("real answers", real, console)
    return int(every.share < BAR)


def by_category(written: Sequence[Case]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for one in judge_cases(written):
        tallies.setdefault(one.of, Tally()).judged.append(one)
    return tallies


def judge_cases(written: Sequence[Case]) -> list[Judged]:
    return judge_all((c.category, c.response, c.gold, c.is_right) for c in written)


def judge_all(work: Iterable[tuple[str, str, str | list[str], bool]]) -> list[Judged]:
    """Verdicts on (where from, response, reference, whether it is right)."""
    verifier = math.build(math.Config())
    verifier.warm()
    found = []
    for of, response, gold, is_right in work:
        question, answer = prompt({"answer": gold}), rollout(response)
        started = time.perf_counter()
        kind = verifier.verify(question, answer).kind
        said = {"answer": response, "gold": str(gold), "is_right": is_right, "kind": kind}
        found.append(Judged(of=of, seconds=time.perf_counter() - started, **said))
    return found


def model_solutions() -> Iterator[tuple[str, str, str, bool]]:
    """Solutions of four models, with the verdicts of those who published them."""
    for row in real_data.rows("gsm8k_model_solutions"):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        for model, solution in row["model_solutions"].items():
            said = solution["solution"].rpartition("A:")[2].strip()
            text = rf"{solution['solution']} \boxed{{{said}}}"
            yield model, text, gold, solution["is_correct"]


def references(name: str) -> dict[str, Tally]:
    golds = [_golds(row["answer"]) for row in real_data.rows(name)]
    itself = [(name, _boxed(gold), gold, True) for several in golds for gold in several]
    anew = [
        (name, _boxed(text), gold, True)
        for several in golds
        for gold in several
        for text in respelled(gold)
    ]
    wrong = [
        (name, _boxed(answer), several[0], False)
        for several, answers in zip(golds, wrong_answers(golds), strict=True)
        for answer in answers
    ]
    solved = [
        (name, row["solution"], several, True)
        for row, several in zip(real_data.rows(name), golds, strict=True)
        if name in SOLVED
    ]
    work = {"itself": itself, "written anew": anew, "wrong": wrong, "solutions": solved}
    return {f"{name}, {what}": Tally(judged=judge_all(some)) for what, some in work.items() if some}


def respelled(gold: str) -> list[str]:
    """The same reference in other LaTeX, and what SymPy makes of it, where it can be read."""
    text = gold.strip().strip("$").rstrip(".")
    other = text.replace(r"\frac", r"\dfrac").replace("^{2}", "^2").replace(r"\left", r"\Bigl")
    other = other.replace(r"\right", r"\Bigr").replace("+", " + ").replace("=", " = ")
    found = [f"$ {other} $."]
    if re.search(r"[A-Z]|\\(?:text|dot|prime)", gold):  # it reads no capitals
        return found
    read = math_verify.parse(rf"\boxed{{{notation.clean(gold)}}}")
    if read and isinstance(read[0], sympy.Expr) and read[0].free_symbols | read[0].atoms(sympy.Pow):
        written = sympy.latex(sympy.expand(read[0]), ln_notation=True, inv_trig_style="full")
        # What it dropped a letter of, or rounded, is another answer.
        is_whole = set(_LETTER.findall(written)) == set(_LETTER.findall(text))
        if is_whole and not _ROUNDED.search(written):
            found.append(written)
    return found


def wrong_answers(golds: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Per problem the references of others, and its own with a small change."""
    draw = random.Random(0)
    for several in golds:
        others: list[str] = []
        for other in draw.sample(range(len(golds)), len(golds)):
            answer = golds[other][0]
            if len(others) < OTHERS and all(_differ(answer, one) for one in [*several, *others]):
                others.append(answer)
        yield others + perturbed(several[0])


def perturbed(gold: str) -> list[str]:
    found = []
    integers = list(_INTEGER.finditer(gold))
    for match in [integers[0], integers[-1]] if integers else []:
        found.append(f"{gold[: match.start()]}{int(match[0]) + 1}{gold[match.end() :]}")
    value = numerals.number(notation.clean(gold))
    if (value is None or value.value) and "pm" not in gold and not notation.read(gold).is_quoted:
        bare = gold.strip().strip("$")
        found.append(bare[1:] if bare.startswith("-") else f"-{bare}")
    return list(dict.fromkeys(found))


def _differ(one: str, other: str) -> bool:
    left, right = notation.clean(one), notation.clean(other)
    values = numerals.number(left), numerals.number(right)
    if values[0] and values[1]:
        return values[0].value != values[1].value
    return notation.compact(left) != notation.compact(right)


def _golds(answer: str) -> list[str]:
    """The references in a row: one, or a list written as JSON."""
    try:
        found = json.loads(answer)
    except ValueError:
        return [answer]
    return [str(one).strip() for one in found] if isinstance(found, list) else [answer]


def _boxed(text: str) -> str:
    return rf"\boxed{{{text}}}"


def show(title: str, tallies: dict[str, Tally], console: Console) -> None:
    heads = ("", "answers", "agreed", "false accepts", "false rejects")
    table = Table(*heads, "ms, mean", "p99", "max", "timeouts", title=title)
    for name, tally in tallies.items():
        table.add_row(name, *tally.cells())
    console.print(table)
    for name, tally in tallies.items():
        for one in tally.misses(is_right=False) + tally.misses(is_right=True):
            what = "false reject" if one.is_right else "false accept"
            console.print(
                f"{what} ({name}): {one.answer[-160:]!r} for {one.gold[:120]!r}, {one.kind}"
            )

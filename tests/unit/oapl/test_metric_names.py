"""Every metric of the table is computed somewhere: no name is a promise unkept."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from oapl.comparison import SE
from oapl.tracking.names import METRICS, describe
from tests.unit.test_layering import MAY_IMPORT, ROOT

VALUE = "\0"
"""In a text, for what is put in at run time."""
READERS = ("oapl/tracking/", "oapl/reports/")
"""Code that shows metrics, and makes none."""
PART = re.compile(r"[\w@*\0]+")
LETTERS = re.compile("[a-z]{3}|@").search
STATISTIC = "(?:mean|std|min|max)"
described = cache(describe)


@cache
def written() -> set[str]:
    """The texts of the packages that may be a metric's name or one part of it."""
    texts: set[str] = set()
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            if not str(path.relative_to(ROOT)).startswith(READERS):
                texts.update(_texts(ast.parse(path.read_text())))
    return {text for text in texts if all(PART.fullmatch(part) for part in text.split("/"))}


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values
            )


def is_computed(entry: str, texts: set[str]) -> bool:
    """Whether some text is the entry, or is one that only this entry stands for."""
    if any(VALUE not in text and described(text) is METRICS.get(entry, ...) for text in texts):
        return True
    name = re.sub(r"\{[A-Z]+\}", VALUE, entry).replace("@n", f"@{VALUE}").replace("@k", f"@{VALUE}")
    if SE in texts:
        name = name.removesuffix(SE)
    return any(_covers(text, name, texts) for text in texts if "/" in text)


def _covers(text: str, name: str, texts: set[str]) -> bool:
    """Whether a text with what other texts may put in at its end is the name."""
    given, parts = text.split("/"), name.split("/")
    if len(given) > len(parts) or given[0] != parts[0]:
        return False
    head, tail = "/".join(given[:-1]), "/".join(parts[len(given) - 1 :])
    if not _form(head).fullmatch("/".join(parts[: len(given) - 1])):
        return False
    if given[-1] != VALUE:
        return _form(given[-1]).fullmatch(tail) is not None
    return tail == VALUE or any(_form(t).fullmatch(tail) for t in texts if LETTERS(t))


@cache
def _form(text: str) -> re.Pattern[str]:
    form = re.escape(text).replace(re.escape(VALUE), "[^/]+")
    return re.compile(form.replace(r"\*", rf"(?:\*|{STATISTIC})"))


def test_every_metric_of_the_table_is_computed():
    texts = written()
    assert [entry for entry in METRICS if not is_computed(entry, texts)] == []


def test_a_metric_that_nobody_computes_is_found():
    texts = written()
    for name in ("perf/nobody", "rollout/nobody_rate", "eval/{SET}/nobody", "oapl/nobody_*"):
        assert not is_computed(name, texts)

"""How much of the public code its docstrings explain, counted where it belongs.

    python -m tests.unit.test_docstrings    # the shares, and what is missing

Public is what no underscore hides: functions, and methods of classes. `Args` belong to two and more
arguments, `Raises` to a body that raises, shapes to a signature or a record with arrays. A method
that a Protocol of `oapl.interfaces` describes is described there, if its class says which one.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("oapl", "actors", "reward_server", "learner", "deploy")
LEAST = 0.9
ARRAY = re.compile(r"\b(ndarray|Tensor)\b")
SHAPE = re.compile(r"\[(\.\.\.|\w[^\[\]\n]*|)\]")
"""`[T]`, `[B, T]`, `[bytes]`, `[...]`, and `[]` of a single number."""
PROTOCOL = re.compile(r"`(?:oapl\.)?interfaces\.(\w+)`")
IS_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Explained:
    """Something public, what its docstring must have, and what it has.

    Attributes:
        place: File, line and name.
        wanted, found: Of `Args`, `Raises`, `shapes`, `text`.
    """

    place: str
    wanted: frozenset[str]
    found: frozenset[str]

    @property
    def missing(self) -> frozenset[str]:
        return self.wanted - self.found


def explained(path: Path, protocols: dict[str, set[str]], root: Path = ROOT) -> Iterator[Explained]:
    """Everything public in a file."""
    name = str(path.relative_to(root))
    for node in ast.parse(path.read_text()).body:
        if node_name(node).startswith("_"):
            continue
        if isinstance(node, IS_FUNCTION):
            yield of_function(name, node, "", frozenset())
        if isinstance(node, ast.ClassDef):
            yield of_class(name, node)
            described: set[str] = set()
            for protocol in PROTOCOL.findall(ast.get_docstring(node) or ""):
                described |= protocols.get(protocol, set())
            for method in node.body:
                is_public = isinstance(method, IS_FUNCTION) and not method.name.startswith("_")
                if is_public and method.name not in described:
                    yield of_function(name, method, f"{node.name}.", frozenset({"self"}))


def node_name(node: ast.stmt) -> str:
    return str(getattr(node, "name", ""))


def of_function(
    file: str, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str, left_out: frozenset[str]
) -> Explained:
    text = ast.get_docstring(node) or ""
    names = [one.arg for one in arguments(node)]
    signature = " ".join(
        ast.unparse(note)
        for note in (*(one.annotation for one in arguments(node)), node.returns)
        if note is not None
    )
    wanted = {"text"}
    if len([name for name in names if name not in {*left_out, "cls"}]) > 1:
        wanted.add("Args")
    if any(raises(node.body)):
        wanted.add("Raises")
    if ARRAY.search(signature):
        wanted.add("shapes")
    place = f"{file}:{node.lineno} {owner}{node.name}"
    return Explained(place, frozenset(wanted), sections(text))


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def of_class(file: str, node: ast.ClassDef) -> Explained:
    fields = [ast.unparse(one.annotation) for one in node.body if isinstance(one, ast.AnnAssign)]
    wanted = {"text"} | ({"shapes"} if any(map(ARRAY.search, fields)) else set())
    beside = "\n".join(  # a field may be explained where it stands
        str(one.value.value)
        for one in node.body
        if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
    )
    place = f"{file}:{node.lineno} {node.name}"
    text = f"{ast.get_docstring(node) or ''}\n{beside}".strip()
    return Explained(place, frozenset(wanted), sections(text))


def sections(text: str) -> frozenset[str]:
    found = {"text"} if text else set()
    found |= {name for name in ("Args", "Raises") if re.search(rf"^\s*{name}:$", text, re.M)}
    if SHAPE.search(text):
        found.add("shapes")
    return frozenset(found)


def raises(body: list[ast.stmt]) -> Iterator[bool]:
    """Whether each statement raises an error of its own: neither a bare `raise`, nor inside."""
    for statement in body:
        if isinstance(statement, IS_FUNCTION | ast.ClassDef):
            continue
        yield isinstance(statement, ast.Raise) and statement.exc is not None
        for name in ("body", "orelse", "finalbody"):
            yield from raises(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from raises(handler.body)
        for case in getattr(statement, "cases", []):
            yield from raises(case.body)


def everything(root: Path = ROOT) -> list[Explained]:
    interfaces = ast.parse((root / "oapl" / "interfaces.py").read_text())
    protocols = {
        node.name: {node_name(inner) for inner in node.body}
        for node in interfaces.body
        if isinstance(node, ast.ClassDef)
    }
    return [
        one
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        for one in explained(path, protocols, root)
    ]


def share(found: list[Explained], what: str) -> float:
    """Of those that want it, how many have it."""
    wanted = [what in one.found for one in found if what in one.wanted]
    return sum(wanted) / len(wanted)


@pytest.fixture(scope="module")
def ours() -> list[Explained]:
    return everything()


@pytest.mark.parametrize("what", ["Args", "Raises", "shapes", "text"])
def test_docstrings_say_what_one_must_know(what, ours):
    missing = [one.place for one in ours if what in one.missing]
    assert share(ours, what) >= LEAST, f"{what} missing: " + ", ".join(missing[:40])


def test_every_method_of_the_interfaces_is_explained(ours):
    bare = [one for one in ours if one.place.startswith("oapl/interfaces.py") and one.missing]
    assert bare == []


def test_the_count_sees_what_is_missing(tmp_path):
    (tmp_path / "x.py").write_text(
        "def good(a: Tensor, b: int) -> None:\n"
        '    """Does it.\n\n    Args:\n        a: float32 [B, T].\n\n'
        '    Raises:\n        ValueError: Why.\n    """\n'
        "    if b:\n        raise ValueError\n"
        "def bad(a: Tensor, b: int) -> None:\n"
        '    """Does it."""\n'
        "    if b:\n        raise ValueError\n"
        "class Here:\n"
        '    """See `oapl.interfaces.Known`."""\n'
        "    def known(self, a, b): ...\n"
        "    def unknown(self, a, b): ...\n"
    )
    good, bad, here, unknown = explained(tmp_path / "x.py", {"Known": {"known"}}, tmp_path)
    assert good.wanted == {"text", "Args", "Raises", "shapes"}
    assert not good.missing
    assert bad.missing == {"Args", "Raises", "shapes"}
    assert not here.missing
    assert unknown.missing == {"text", "Args"}


if __name__ == "__main__":
    rows = everything()
    for what in ("Args", "Raises", "shapes", "text"):
        wanted = sum(what in one.wanted for one in rows)
        print(f"{what}: {share(rows, what):.1%} of {wanted}")
    for one in rows:
        if one.missing:
            print(f"{one.place}: {', '.join(sorted(one.missing))}")

"""Names that no import checks: of modules in strings, docstrings, README and Makefile."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from oapl.config.listing import settings
from oapl.config.messages import RENAMED
from tests.conftest import LONG
from tests.unit.test_layering import MAY_IMPORT, ROOT

PACKAGES = (*MAY_IMPORT, "tests")
DOTTED = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+(:\w+)?")
IN_STRING = re.compile(rf"^{DOTTED.pattern}$")
IN_PROSE = re.compile(rf"`({DOTTED.pattern})")
IN_COMMAND = re.compile(rf"(?:-m|from|import) +({DOTTED.pattern})")
PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/(?:[\w./-]*/|[\w./-]*\.\w+))`")
PLANTED = ("test_names.py", "test_docstrings.py", "test_contents.py", "test_shadows.py")
"""Files with names that are meant to lead nowhere."""
SETTINGS = {setting.key for setting in settings()} | RENAMED.keys()
TEXTS = ("README.md", "Makefile", ".github/CONTRIBUTING.md", "reward_server/README.md")


def python_files() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name not in PLANTED:
                yield path


def names() -> Iterator[tuple[str, str]]:
    """(where, dotted name) of each; a name that goes on at run time ends in `_` or in capitals."""
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                if IN_STRING.match(node.value):
                    yield place, node.value
                for form in (IN_PROSE, IN_COMMAND):
                    yield from ((place, found[1]) for found in form.finditer(node.value))
    for name in TEXTS:
        for form in (IN_PROSE, IN_COMMAND):
            yield from ((name, found[1]) for found in form.finditer((ROOT / name).read_text()))


def exists(name: str) -> bool:
    """Whether a module has that name, or defines it; a setting may begin with a package's name."""
    module, _, attribute = name.partition(":")
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        if file.exists() or path.is_dir():
            rest = [*parts[end:], *([attribute] if attribute else [])]
            return not rest or (file.exists() and defines(file, rest[0])) or is_setting(module)
    return False


def is_setting(name: str) -> bool:
    return name in SETTINGS or any(key.startswith(f"{name}.") for key in SETTINGS)


def defines(file: Path, name: str) -> bool:
    return re.search(rf"^(?:class |def |async def )?{name}\b", file.read_text(), re.M) is not None


def test_dotted_names_lead_somewhere():
    lost = [
        f"{place}: {name}"
        for place, name in names()
        if not (exists(name) or name.endswith(("_", ".NAME")))
    ]
    assert lost == []


def test_paths_in_prose_lead_somewhere():
    found = []
    for path in (*python_files(), *(ROOT / name for name in TEXTS)):
        for match in PATH.finditer(path.read_text()):
            if not (ROOT / match[1]).exists():
                found.append(f"{path.relative_to(ROOT)}: {match[1]}")
    assert found == []


def test_a_name_that_has_moved_is_found():
    assert exists("oapl.replay.ledger:Ledger")
    assert exists("learner.precision")
    assert not exists("oapl.ledger")
    assert not exists("learner.trainer:Teacher")
    assert IN_PROSE.search("see `oapl.ledger`.")
    assert IN_COMMAND.search("python -m deploy.smollm2")


def test_the_long_files_are_there():
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(LONG) <= files

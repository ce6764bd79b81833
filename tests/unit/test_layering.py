"""Who may import whom. A breach is named by file and line.

Every import counts, at the top or inside a function, and `from x import y` is one of the module
`x.y` where there is such a module. Each rule is broken once in a small tree, to see it speak.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "oapl": {"oapl"},
    "actors": {"actors", "oapl"},
    "reward_server": {"reward_server", "oapl"},
    "learner": {"learner", "oapl"},
    "deploy": {"oapl", "actors", "reward_server", "learner", "deploy"},
}
ROOMS = {
    "oapl": (
        ("errors", "logprobs", "shadows", "tags"),
        ("config", "remote", "weight_files", "whole_files"),
        ("records", "devices", "comparison", "accounting", "repetition", "stragglers"),
        (
            "counters",
            "batching",
            "interfaces",
            "estimators",
            "evaluation",
            "groups_file",
        ),
        ("replay", "weights", "loops", "objectives", "sampling", "alarms", "planning"),
        ("tracking",),
        ("reports",),
    ),
    "actors": (("data",), ("engines",), ("scoring",), ("worker",)),
    "reward_server": (
        ("answers", "functions", "instructions", "programs", "sandbox", "judge_cache", "puzzles"),
        ("verifiers",),
        ("settings", "pool", "troubles"),
        ("server",),
    ),
    "learner": (
        ("shares",),
        (
            *("loss_scale", "measures", "models", "probing", "schedule", "unused", "companions"),
            "utilisation",
            "books",
        ),
        ("standstill",),
        ("inputs",),
        ("export", "trial", "zero_engine"),
        ("checkpoints",),
        ("forward", "ranks", "updates"),
        (
            *("publisher", "publication", "preparation", "resets", "kept_models", "moving_on"),
            *("evaluations", "alarming"),
        ),
        ("step", "surroundings"),
        ("trainer", "packing", "deciders"),
        ("scores",),
        ("line", "saving"),
        ("group",),
    ),
    "deploy": (
        ("requirements", "recipes", "sizing", "filters"),
        ("processes", "filtering"),
        ("checks", "importing"),
        ("run", "doctor", "planning"),
        ("sweeping",),
        ("commands",),
        ("recipe_tables",),
        ("documents",),
    ),
}
"""The rooms of each package, lowest first: a file imports its own room and those of lower rows."""
HEAVY = ("ray", "vllm", "deepspeed", "torch_npu", "wandb", "wandb_workspaces", "trackio")
ADAPTERS = {
    "ray": ("deploy/", "oapl/weights/object_store.py", "oapl/tracking/ray_metrics.py"),
    "vllm": ("actors/engines/",),
    "deepspeed": ("learner/",),
    "wandb": ("oapl/tracking/wandb_sink.py",),
    "wandb_workspaces": ("deploy/commands/_dashboard/workspace.py",),
    "trackio": ("oapl/tracking/trackio_sink.py",),
    "torch_npu": ("oapl/devices/npu.py",),
}
"""The files that may import a heavy library; those of `oapl` only inside functions."""


@dataclass(frozen=True)
class Import:
    """One module that a file imports.

    Attributes:
        importer, imported: Dotted; `imported` is the module itself where there is one of that name.
        place: File and line.
        is_at_top: Whether it is executed when the file is imported.
    """

    importer: str
    imported: str
    place: str
    is_at_top: bool

    def __str__(self) -> str:
        return f"{self.place} imports {self.imported}"


def package_of(module: str) -> str:
    return module.partition(".")[0]


def files(root: Path) -> dict[str, Path]:
    """Every module of the five packages, by its dotted name."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in MAY_IMPORT
        for path in sorted((root / package).rglob("*.py"))
    }


def imports(root: Path) -> list[Import]:
    """All imports of all files but `__main__`, which stands above the packages."""
    modules = files(root)
    found = []
    for name, path in modules.items():
        if path.name == "__main__.py":
            continue
        tree = ast.parse(path.read_text())
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        for node, target in _targets(tree, modules):
            place = f"{path.relative_to(root)}:{node.lineno}"
            found.append(Import(name, target, place, id(node) not in inside))
    return found


def _targets(
    tree: ast.Module, modules: dict[str, Path]
) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node, inner if inner in modules else str(node.module)


def between_packages(found: list[Import]) -> list[str]:
    return [
        str(one)
        for one in found
        if package_of(one.imported) in MAY_IMPORT
        and package_of(one.imported) not in MAY_IMPORT[package_of(one.importer)]
    ]


def between_rooms(found: list[Import]) -> list[str]:
    return [
        str(one)
        for one in found
        if package_of(one.importer) == package_of(one.imported)
        and (inner := room(one.importer)) is not None
        and (outer := room(one.imported)) is not None
        and inner != outer
        and row(one.importer) <= row(one.imported)
    ]


def room(module: str) -> str | None:
    """The room of a module; None for a package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def row(module: str) -> int:
    rows = ROOMS[package_of(module)]
    return next(i for i, rooms in enumerate(rows) if room(module) in rooms)


def of_heavy_libraries(found: list[Import]) -> list[str]:
    return [
        str(one)
        for one in found
        if (library := package_of(one.imported)) in HEAVY
        and (
            not one.place.startswith(ADAPTERS[library])
            or (one.is_at_top and package_of(one.importer) == "oapl")
        )
    ]


def of_main(found: list[Import]) -> list[str]:
    return [str(one) for one in found if one.imported.endswith("__main__")]


RULES = (between_packages, between_rooms, of_heavy_libraries, of_main)


@pytest.fixture(scope="module")
def ours() -> list[Import]:
    return imports(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_nobody_breaks_a_rule(rule, ours):
    assert rule(ours) == []


def test_every_module_has_a_room():
    named = {(package, name) for package, rows in ROOMS.items() for row in rows for name in row}
    lost = {
        module
        for module in files(ROOT)
        if (inner := room(module)) not in (None, "__main__")
        and (package_of(module), inner) not in named
    }
    assert not lost, "name its room in ROOMS"


def test_every_folder_of_python_is_a_package():
    lost = [
        str(folder.relative_to(ROOT))
        for top in (*MAY_IMPORT, "tests")
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}
        if not (folder / "__init__.py").exists()
    ]
    assert lost == []


def test_oapl_imports_without_ray_vllm_deepspeed_and_wandb():
    modules = [n for n in files(ROOT) if package_of(n) == "oapl" and not n.endswith("__main__")]
    program = (
        "import sys, importlib\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr


def test_imports_have_no_cycle(ours):
    graph: dict[str, set[str]] = {name: set() for name in files(ROOT)}
    for one in ours:
        if one.is_at_top:
            graph[one.importer].add(one.imported)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done or name not in graph:
            return
        for target in graph[name]:
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("rule", "file", "line", "imported"),
    [
        (between_packages, "learner/group.py", "from actors import worker", "actors.worker"),
        (between_packages, "oapl/loops.py", "import deploy.run.program", "deploy.run.program"),
        (between_packages, "actors/worker.py", "import reward_server", "reward_server"),
        (between_rooms, "oapl/records.py", "from oapl import loops", "oapl.loops"),
        (
            between_rooms,
            "deploy/checks/x.py",
            "from deploy.run import program",
            "deploy.run.program",
        ),
        (between_rooms, "oapl/weights/x.py", "import oapl.replay.ledger", "oapl.replay.ledger"),
        (of_heavy_libraries, "learner/group.py", "from ray import get", "ray"),
        (of_heavy_libraries, "oapl/devices/npu.py", "import torch_npu", "torch_npu"),
        (of_main, "deploy/run/program.py", "from oapl import __main__", "oapl.__main__"),
    ],
)
@pytest.mark.parametrize("is_inside", [False, True])
def test_a_planted_breach_is_named_by_file_and_line(
    tmp_path, rule, file, line, imported, is_inside
):
    for package in MAY_IMPORT:
        (tmp_path / package).mkdir()
    for name in ("actors/worker", "oapl/loops", "oapl/__main__", "oapl/replay/ledger"):
        plant(tmp_path / f"{name}.py", "")
    plant(tmp_path / "deploy/run/program.py", "")
    plant(tmp_path / file, f"\ndef f():\n    {line}\n" if is_inside else f"\n\n{line}\n")
    allowed = is_inside and imported == "torch_npu"  # where its adapter may import it
    expected = [] if allowed else [f"{file}:3 imports {imported}"]
    assert rule(imports(tmp_path)) == expected


def plant(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

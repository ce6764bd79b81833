"""Who may import whom. A breach is named by file and line."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("oapl", "actors", "reward_server", "learner", "deploy")
MAY_IMPORT = {
    "oapl": {"oapl"},
    "actors": {"actors", "oapl"},
    "reward_server": {"reward_server", "oapl"},
    "learner": {"learner", "oapl"},
    "deploy": set(PACKAGES),
}
HEAVY = ("ray", "vllm", "deepspeed", "torch_npu", "wandb")
ADAPTERS = {
    "ray": {"deploy", "oapl/weights/object_store.py", "oapl/ray_metrics.py"},
    "vllm": {"actors/engines", "actors/vllm_inputs.py", "actors/vllm_weights.py"},
    "deepspeed": {"learner"},
    "wandb": {"oapl/tracking.py"},
    "torch_npu": {"oapl/devices/npu.py"},
}


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, stands at module level) of every import in a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield name, node.lineno, id(node) not in inside


def sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__main__.py":
                yield package, path


def test_siblings_do_not_import_each_other():
    breaches = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for package, path in sources()
        for name, line, _ in imports(path)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert breaches == []


def test_heavy_libraries_are_imported_only_by_their_adapters():
    breaches = []
    for _, path in sources():
        place = str(path.relative_to(ROOT))
        for name, line, at_top in imports(path):
            library = name.split(".")[0]
            if library not in HEAVY:
                continue
            is_adapter = any(place == a or place.startswith(a + "/") for a in ADAPTERS[library])
            if not is_adapter or (at_top and place.startswith("oapl/")):
                breaches.append(f"{place}:{line} imports {name}")
    assert breaches == []


def test_nothing_imports_main():
    breaches = [
        f"{path.relative_to(ROOT)}:{line}"
        for _, path in sources()
        for name, line, _ in imports(path)
        if name.endswith("__main__")
    ]
    assert breaches == []


def test_oapl_imports_without_ray_vllm_deepspeed_and_wandb():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package, path in sources()
        if package == "oapl"
    ]
    program = (
        "import sys, importlib\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr


def test_imports_have_no_cycle_at_module_level():
    graph: dict[str, set[str]] = {}
    for _, path in sources():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {
            target
            for target, _, at_top in imports(path)
            if at_top and target.split(".")[0] in PACKAGES
        }
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

"""What comes from a file is loaded without running code: the packages are walked for loaders."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")
PICKLES = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
LOADERS = ("load", "loads", "Unpickler", "open", "read_pickle")
JUDGED = "what it is for: the program, or the function, whose source a user gave to be run"
FROM_ITS_PARENT = "through a pipe, from the process that has started it"
ALLOWED = {
    "oapl/remote/plain_pickles.py:pickle.Unpickler": "the reader with the closed list",
    "actors/data/puzzles.py:pickle.loads": "through a pipe, from the child that it has started",
    "actors/data/puzzles.py:pickle.load": FROM_ITS_PARENT,
    "reward_server/functions/loading.py:exec": JUDGED,
    "reward_server/sandbox/execute.py:exec": JUDGED,
    "reward_server/sandbox/harness.py:exec": JUDGED,
    "reward_server/pool/fork_server.py:pickle.load": FROM_ITS_PARENT,
    "reward_server/pool/worker.py:pickle.loads": FROM_ITS_PARENT,
}


def loaders(text):
    """Names of calls and bases that load what may run."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            module, _, last = name.rpartition(".")
            if module in PICKLES and last in LOADERS:
                yield name
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Call) and _is_unsafe(node):
            yield ast.unparse(node.func)


def _is_unsafe(call):
    name, words = ast.unparse(call.func), {word.arg: word.value for word in call.keywords}
    if name in ("torch.load", "torch.jit.load"):
        kept = words.get("weights_only")
        return not (isinstance(kept, ast.Constant) and kept.value is True)
    if name in ("np.load", "numpy.load"):
        return "allow_pickle" in words
    return name in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "pandas.read_pickle")


def test_no_file_is_read_by_what_runs_code_but_pipes_of_our_own_processes():
    found = {
        f"{file.relative_to(ROOT)}:{name}"
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in loaders(file.read_text())
    }
    assert not found - set(ALLOWED), "these may run code; read plain data, or say why in ALLOWED"
    assert set(ALLOWED) <= found


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(content)",
        "class U(pickle.Unpickler): pass",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
    ],
)
def test_a_loader_that_runs_code_is_found(line):
    assert list(loaders(line))


@pytest.mark.parametrize(
    "line", ["torch.load(path, weights_only=True)", "pickle.dumps(value)", "json.loads(text)"]
)
def test_one_that_runs_none_is_not(line):
    assert not list(loaders(line))

"""The bugs of `make planted` fit the code as it is, and their tests are there."""

import ast
from pathlib import Path

from tests.planted import planting
from tests.planted.bugs import BUGS

ROOT = Path(__file__).parents[2]


def test_every_bug_can_be_planted_and_its_test_is_there():
    for bug in BUGS:
        ast.parse(planting.plant(bug, (ROOT / bug.file).read_text()))
        file, _, name = bug.test.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        tests = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in tests, f"{bug.test}: there is no such test, for: {bug.what}"


def test_there_are_bugs_of_every_kind_and_none_twice():
    assert len({(bug.file, bug.new, bug.old) for bug in BUGS}) == len(BUGS) >= 15
    places = {"oapl/replay", "learner/checkpoints", "deploy/run/workers", "learner/publication"}
    assert all(any(bug.file.startswith(place) for bug in BUGS) for place in places)

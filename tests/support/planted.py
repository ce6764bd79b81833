"""Plugin files of a user's own, written into a folder on Python's path."""

from __future__ import annotations

from pathlib import Path

OBJECTIVE = """\
from oapl.config.fields import section
from oapl.config.objective import Declarations

DECLARES = Declarations(
    needs=frozenset(), min_group_size=1, samples=True, needs_inference_logprobs=False
)

@section
class Config:
    pass

class Objective:
    def __init__(self, config):
        self.declares = DECLARES
"""
VERIFIER = """\
from oapl.config.fields import section
from reward_server.verifiers.base import Traits

DECLARES = Traits(runs_programs=False)

@section
class Config:
    pass

def build(config):
    return None
"""


def plant(folder: Path, name: str, text: str) -> str:
    """Write a module into a package of its own, and return its dotted path.

    Args:
        folder: Stands on Python's path.
        name: Of the package; no other test's.
        text: Of the module.
    """
    (folder / name).mkdir()
    (folder / name / "mine.py").write_text(text)
    return f"{name}.mine"

"""How an evaluation was made, kept beside its answers: what a table of them must state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oapl.errors import InputError
from oapl.evaluation import Protocol
from oapl.records import EvalAnswers
from oapl.whole_files import written_aside

ANSWERS = "evaluations"
"""Folder of a run's answers."""
SETTINGS = "eval.toml"
"""There: the settings that `oapl eval` was given, by which its answers can be judged again."""
FILE = "_evaluation.json"
"""In a folder of stored answers; beside answers as text the file is called as these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How the answers to a set were made.

    Attributes:
        name: Of the set.
        protocol: How they were asked for.
        unjudged: Samples that nobody could judge, which are stored nowhere.
    """

    name: str
    protocol: Protocol
    unjudged: int = 0

    @classmethod
    def of(cls, name: str, protocol: Protocol, answers: Sequence[EvalAnswers]) -> Made:
        """Tell it of an evaluation that has just ended.

        Args:
            name: Of the set.
            protocol: How answers were asked for.
            answers: One record per problem.
        """
        lost = sum(j.failure is not None for answer in answers for j in answer.judgements)
        return cls(name=name, protocol=protocol, unjudged=lost)


def write(path: Path, made: Made) -> None:
    """Write it down, whole or not at all.

    Args:
        path: Of the file.
        made: What is kept.
    """
    table = {
        "name": made.name,
        "protocol": made.protocol.to_json(),
        "unjudged": made.unjudged,
    }
    with written_aside(path) as part:
        part.write_text(json.dumps(table, indent=1) + "\n")


def read(path: Path) -> Made | None:
    """Read it back; None where there is no such file, as beside evaluations of earlier builds.

    Raises:
        InputError: It is damaged.
    """
    if not path.is_file():
        return None
    try:
        table = json.loads(path.read_text())
        protocol = Protocol.from_json(table["protocol"])
        return Made(name=table["name"], protocol=protocol, unjudged=int(table["unjudged"]))
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} does not say how an evaluation was made ({error!r}); copy it again, or delete "
            "it: the answers are read without it"
        ) from error


def told(protocols: Mapping[str, Protocol]) -> list[str]:
    """State how sets were answered: in one line where all were answered alike.

    Args:
        protocols: By the set's name.
    """
    lines = {name: str(protocol) for name, protocol in protocols.items()}
    if len(set(lines.values())) <= 1:
        return list(dict.fromkeys(lines.values()))
    return [f"{name}: {line}" for name, line in lines.items()]


def newest(folder: Path) -> dict[str, Protocol]:
    """Find how the sets of a run were answered the last time, by name.

    Args:
        folder: `evaluations` of the run.
    """
    files: Iterable[Path] = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    found = [made for path in files if (made := read(path)) is not None]
    return {made.name: made.protocol for made in found}

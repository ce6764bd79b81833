"""`docs/`: every setting, every metric and every figure, written from the code that declares them,
and in the pages of the papers (`docs/papers/`) the tables of what our recipes say.

    python -m deploy.documents      # writes them anew; `make docs`

`plans.md` is made with them, by `deploy.planning.published`.

Invariant: what stands there is what the code says; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.commands._settings import KEYS
from deploy.planning import published
from deploy.recipe_tables import filled
from oapl.config import RunConfig
from oapl.config.listing import Setting, fields, is_section, literal, settings
from oapl.config.stages import StageSection
from oapl.reports.base import FIGURES, SECTIONS
from oapl.tracking.names import METRICS

FOLDER = Path(__file__).parents[1] / "docs"
PAPERS = "papers"
"""Folder of pages that people write, but for the tables in them."""
GROUPS = {
    "loss": "Loss",
    "policy": "Policy",
    "reference": "Reference",
    "oapl": "Objectives",
    "grpo": "Objectives",
    "ppo": "Objectives",
    "remix": "Objectives",
    "geometric": "Objectives",
    "critic": "Critic",
    "reward": "Rewards",
    "rollout": "Rollouts",
    "engine": "Engines",
    "replay": "Replay",
    "weights": "Publication",
    "time": "Time, idle and speed",
    "idle": "Time, idle and speed",
    "perf": "Time, idle and speed",
    "eval": "Evaluation",
    "faults": "Faults",
}
"""Headings of metrics by the first part of their names; of another, the part itself."""


def documents() -> dict[str, str]:
    """Make every document, by the name of its file."""
    return {
        "settings.md": "\n".join(_settings()) + "\n",
        "metrics.md": "\n".join(_metrics()) + "\n",
        "figures.md": "\n".join(_figures()) + "\n",
        **{f"{PAPERS}/{page.name}": filled(page.read_text()) for page in _papers()},
    }


def _papers() -> list[Path]:
    return sorted((FOLDER / PAPERS).glob("*.md"))


def write(folder: Path = FOLDER) -> None:
    """Write every document."""
    folder.mkdir(exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)
    published.write(folder / published.PAGE.name)


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Keys of a recipe, and of overrides on the command line. Made by `make docs`."
    for name, info in fields(RunConfig).items():
        section = info.annotation
        doc = section.__doc__ if is_section(section) else info.description
        known = list(settings(section, f"{name}.")) if isinstance(section, type) else []
        if name == "stages":
            known = list(settings(StageSection, "stages.N."))
        yield from ("", f"## `{name}`", "", _line(doc or ""))
        yield from _table(known)
    for kind, key in KEYS:
        for name in kind.names():
            own = kind.load(name).Config
            if fields(own):
                prefix = key.format(name)
                yield from ("", f"## {prefix.rstrip('.')}, of `{kind.package}.{name}`")
                yield from _table(settings(own, prefix))


def _table(known: Iterable[Setting]) -> Iterator[str]:
    rows = [(f"`{one.key}`", _default(one), f"{one.help} {_choices(one)}".strip()) for one in known]
    if rows:
        yield from ("", *_markdown(("setting", "default", "meaning"), rows))


def _default(one: Setting) -> str:
    return "" if one.default is None else f"`{literal(one.default)}`"


def _choices(one: Setting) -> str:
    return f"One of {', '.join(f'`{choice}`' for choice in one.choices)}." if one.choices else ""


def _metrics() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield (
        "Names in `metrics.jsonl`, on W&B and on Ray's dashboard; the x axis of all is the learner "
        "step. Parts in braces stand for a name, `@n` and `@k` for a number, `_*` for `_mean`, "
        "`_std`, `_min` and `_max`. Made by `make docs`."
    )
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, metric in METRICS.items():
        first = name.partition("/")[0]
        rows = groups.setdefault(GROUPS.get(first, first), [])
        rows.append((f"`{name}`", metric.unit, metric.meaning))
    for heading, rows in groups.items():
        yield from ("", f"## {heading}", "", *_markdown(("metric", "unit", "meaning"), rows))


def _figures() -> Iterator[str]:
    yield "# Figures"
    yield ""
    yield (
        "What `oapl report` draws, each a file of `oapl/reports/`; `--figure NAME` draws one "
        "alone. Made by `make docs`."
    )
    declared = [(name, FIGURES.load(name).DECLARES) for name in FIGURES.names()]
    for section, heading in SECTIONS.items():
        rows = [
            (about.place, f"`{name}`", about.title, about.reads, about.like)
            for name, about in declared
            if about.section == section
        ]
        shown = [row[1:] for row in sorted(rows)]
        headings = ("name", "figure", "how it is read", "as in")
        yield from ("", f"## {heading}", "", *_markdown(headings, shown))


def _markdown(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    write()

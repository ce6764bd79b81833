"""What was run: the settings that matter, those in which the series differ, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oapl.reports._drawing.texts import DASH, Table, words
from oapl.reports._study.run import Run
from oapl.reports._study.study import Series, Study, differing
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="What was run",
    section="run",
    place=10,
    reads="Settings of the recipe, in a run of stages those that its stages have in common; then "
    "every other setting in which these series differ, and what they took.",
    like="ReMix Tables 7, 8",
)
SETTINGS = {
    "objective.name": "objective",
    "objective.beta1": "beta1 (value)",
    "objective.beta2": "beta2 (KL)",
    "model.path": "model",
    "rollout.group_size": "rollouts per prompt, G",
    "learner.batch_size": "rollouts per learner step",
    "sync.interval": "learner steps between synchronisations, L",
    "sync.max_lead": "lead (steps)",
    "rollout.max_tokens": "longest response (tokens)",
    "rollout.temperature": "temperature",
    "optimizer.lr": "learning rate",
    "learner.precision": "precision",
    "cluster.device": "device",
    "rollout.num_engines": "engines",
    "learner.num_ranks": "learner ranks",
}
MOST_DIFFERENCES = 24
PATH_PARTS = 2
"""Of the path of a file that lies elsewhere."""
LONGEST = 60
"""Characters of a value."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    there = [key for key in SETTINGS if any(key in run.settings for run in study.runs)]
    others = [key for key in differing(study.series) if key not in there][:MOST_DIFFERENCES]
    rows: list[tuple[str, Callable[[Series], str]]] = [
        (SETTINGS[key], _setting(key)) for key in there
    ]
    rows += [(key, _setting(key)) for key in others]
    rows += [
        ("data", _data),
        ("stages", _stages),
        ("seeds", _seeds),
        ("learner steps made", lambda series: _each(series, lambda run: f"{run.steps:,}")),
        ("rollouts generated", lambda series: _each(series, _rollouts)),
        ("wall time from step 0", lambda series: _each(series, lambda run: duration(run.seconds))),
        ("device-hours", lambda series: _each(series, _device_hours)),
        ("effective training time", lambda series: _each(series, _ettr)),
    ]
    return Table(
        is_list=len(study.series) == 1,
        columns=("", *(series.name for series in study.series)),
        rows=tuple(
            (words(name), *map(words, told))
            for name, of in rows
            if any(told := [of(series) for series in study.series]) and set(told) != {DASH}
        ),
    )


def duration(seconds: float) -> str:
    """Write seconds as `4 min 10 s` or `3 h 20 min`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute} min"
    return f"{minute} min {second} s" if minute else f"{second} s"


def _setting(key: str) -> Callable[[Series], str]:
    return lambda series: _each(series, lambda run: _shown(run, key))


def _shown(run: Run, key: str) -> str:
    value: Any = run.setting(key)
    if value is None:
        return DASH
    text = str(value)
    for own in (run.folder.absolute(), f"{run.setting('run.dir')}/{run.setting('run.name')}"):
        text = text.removeprefix(f"{own}/")
    if text.startswith("/") and key.endswith("path"):
        text = "/".join(["…", *text.split("/")[-PATH_PARTS:]])
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"


def _each(series: Series, of: Callable[[Run], str]) -> str:
    return ", ".join(dict.fromkeys(of(run) for run in series.runs))


def _data(series: Series) -> str:
    run = series.runs[0]
    names = []
    for number in range(len(run.settings)):
        if (name := run.setting(f"data.sources.{number}.name")) is None:
            break
        names.append(str(name))
    return ", ".join(names) or DASH


def _stages(series: Series) -> str:
    return ", ".join(stage.name for stage in series.runs[0].stages) or DASH


def _seeds(series: Series) -> str:
    return ", ".join(str(run.setting("run.seed", DASH)) for run in series.runs)


def _rollouts(run: Run) -> str:
    return f"{run.volume.last:,.0f}" if run.volume else DASH


def _device_hours(run: Run) -> str:
    """As the run has counted them, else those of its cards; a CPU has none to count."""
    if found := run.curve("total/device_hours"):
        return f"{found.last:.2f}"
    if run.setting("cluster.device", "cpu") == "cpu":
        return DASH
    engines = run.setting("rollout.num_engines", 1) * run.setting("rollout.tensor_parallel_size", 1)
    return f"{run.seconds / 3600 * (engines + run.setting('learner.num_ranks', 1)):.1f}"


def _ettr(run: Run) -> str:
    found = run.curve("total/ettr")
    return f"{found.last:.1%}" if found else DASH

"""Where every second went, of the learner and of the engines, on one axis of wall time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oapl.reports._drawing.panels import Mark, Panel, Part, Stack
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels
from oapl.tracking.lines import CLOCK, Row

DECLARES = About(
    title="Where every second went",
    section="speed",
    place=20,
    reads="Each stretch of wall time is filled by what the learner did in it, and below by what "
    "the engines did. What is left white nobody has told of: no engine was there, or the run lay "
    "still.",
)
STEP = "time/step_s"
WAIT = "time/wait_for_batch_s"
NOT_PARTS = (CLOCK, STEP, "time/both_working_s")
"""Times that others are parts of."""
LEARNER, ENGINES = "seconds/learner/", "seconds/engines/"
"""Names of seconds that add up by themselves, where a run has counted them so."""
UPDATE, DATA, REST = "forward and backward", "waits for its batch", "start, restart and the rest"
LABELS = {
    "update": UPDATE,
    "forward_backward": UPDATE,
    "data": DATA,
    "wait_for_batch": DATA,
    "synchronise": "waits for the first batch after a publication",
    "prepare": "scoring before the update",
    "publish": "publication",
    "checkpoint": "checkpoint",
    "evaluate": "evaluation",
    "wait_for_evaluation": "evaluation",
    "other": REST,
    "start": REST,
    "restart": REST,
    "finish": REST,
}
"""Of the learner's states, and of its times."""
GENERATE, THROWN, IDLE = "generate", "generate what is thrown away", "have nothing to do"
ENGINE_LABELS = {
    "generate": GENERATE,
    "thrown_away": THROWN,
    "evaluate": "answer evaluations",
    "load": "load weights",
    "idle": IDLE,
}
PLACES = {
    UPDATE: 0,
    GENERATE: 0,
    "scoring before the update": 4,
    DATA: 1,
    THROWN: 1,
    "waits for the first batch after a publication": 5,
    "publication": 2,
    "load weights": 2,
    "checkpoint": 3,
    "evaluation": 6,
    "answer evaluations": 6,
    IDLE: 7,
    REST: 7,
}
"""Of the colours, and the order from below."""
UNKNOWN_PLACE = 5
"""Of a time that this file does not know by name."""
LOST = ("rollout/aborted_tokens", "replay/cleared_tokens", "replay/refused_tokens")
MOVED = "replay/moved_tokens"
"""Of the aborted ones those that went on in another engine."""
STRETCHES = 90
MOST_RUNS = 3
Told = dict[str, float]
"""Seconds by label."""


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """Seconds by what they went to, stretch by stretch.

    Attributes:
        edges: float64 [N + 1], seconds since the run began.
        learner, engines: By label, float64 [N], shares of the stretch.
    """

    edges: np.ndarray
    learner: Mapping[str, np.ndarray]
    engines: Mapping[str, np.ndarray]


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found: list[Panel] = []
    notes = []
    for series, run in study.firsts[:MOST_RUNS]:
        if (spent := spent_by(run)) is not None:
            head = f"{series.name}: " if len(study.series) > 1 else ""
            found += _panels(run, spent, head)
            notes.append(head + _sentence(spent))
    if not found:
        return Absent("these runs have recorded no times of learner steps (time/step_s)")
    return Panels(panels=tuple(found), note="\n".join(notes))


def spent_by(run: Run) -> Spent | None:
    """Divide a run's wall time.

    Args:
        run: The run.

    Returns:
        None where no line has both a time and a duration.
    """
    lines = [line for line in run.lines if line.get(CLOCK) and line.get(STEP)]
    if not lines:
        return None
    cuts = np.unique(np.linspace(0, len(lines), min(STRETCHES, len(lines)) + 1).round().astype(int))
    groups = [lines[low:high] for low, high in itertools.pairwise(cuts)]
    ends = [group[-1][CLOCK] - run.began for group in groups]
    edges = np.array([min(0.0, ends[0] - 1e-3), *ends])
    sizes = np.maximum(np.diff(edges), 1e-9)
    learner, engines = (
        _shares([_added(of, group) for group in groups], sizes) for of in (_learner, _engines)
    )
    return Spent(edges, learner, engines)


def _added(of: Callable[[Row], Told], lines: Sequence[Row]) -> Told:
    total: Told = {}
    for line in lines:
        for label, value in of(line).items():
            total[label] = total.get(label, 0.0) + value
    return total


def _shares(found: Sequence[Told], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds of each stretch as shares of it; never more than the whole."""
    labels = list(dict.fromkeys(label for one in found for label in one))
    values = {label: np.array([one.get(label, 0.0) for one in found]) / sizes for label in labels}
    total = sum(values.values(), np.zeros(len(sizes)))
    return {label: value / np.maximum(total, 1.0) for label, value in values.items()}


def _learner(line: Row) -> Told:
    """What the learner did in a line: by its own account, else by the times of its parts."""
    if told := _states(line, LEARNER, LABELS):
        return told
    parts = {
        name: float(value)
        for name, value in line.items()
        if name.startswith("time/") and name.endswith("_s") and name not in NOT_PARTS and value
    }
    rest = line[STEP] - sum(parts.values())
    if rest < 0 and WAIT in parts:  # what it waited for by itself is counted once
        given = min(parts[WAIT], -rest)
        parts[WAIT] -= given
        rest += given
    told = {}
    for name, value in parts.items():
        plain = name.removeprefix("time/").removesuffix("_s")
        label = LABELS.get(plain, plain.replace("_", " "))
        told[label] = told.get(label, 0.0) + value
    return {**told, REST: told.get(REST, 0.0) + max(rest, 0.0)}


def _engines(line: Row) -> Told:
    """What the engines did in a line, all of them together as one."""
    if told := _states(line, ENGINES, ENGINE_LABELS):
        whole = sum(line[name] or 0.0 for name in line if name.startswith(ENGINES))
        scale = line[STEP] / whole if whole else 0.0
        return {label: value * scale for label, value in told.items()}
    share = line.get("idle/engines")
    if share is None:
        return {}
    busy = line[STEP] * (1 - share)
    lost = sum(line.get(name) or 0.0 for name in LOST) - (line.get(MOVED) or 0.0)
    made = (line.get("rollout/tokens") or 0.0) + (line.get(LOST[0]) or 0.0)
    part = min(max(lost, 0.0) / made, 1.0) if made else 0.0
    return {GENERATE: busy * (1 - part), THROWN: busy * part, IDLE: line[STEP] * share}


def _states(line: Row, prefix: str, labels: Mapping[str, str]) -> Told:
    told: Told = {}
    for state, label in labels.items():
        if value := line.get(prefix + state):
            told[label] = told.get(label, 0.0) + float(value)
    return told


def _panels(run: Run, spent: Spent, head: str) -> list[Panel]:
    scale, unit = (3600, "hours") if spent.edges[-1] > 3 * 3600 else (60, "minutes")
    marks = tuple(
        Mark(at=float(np.interp(one.step, run.clock.x, run.clock.y)) / scale, name=one.name)
        for one in run.stages[1:]
    )
    sides = {"the learner": spent.learner, "the engines": spent.engines}
    return [
        Stack(
            title=f"{head}{side} (share of the time)",
            x=f"{unit} of wall time",
            edges=spent.edges / scale,
            parts=tuple(
                Part(label=label, place=PLACES.get(label, UNKNOWN_PLACE), values=values[label])
                for label in [*PLACES, *sorted(set(values) - set(PLACES))]
                if label in values and values[label].max() > 0
            ),
            marks=marks,
        )
        for side, values in sides.items()
        if values
    ]


def _sentence(spent: Spent) -> str:
    sizes = np.diff(spent.edges)
    total = float(sizes.sum())
    parts = {label: float((values * sizes).sum()) for label, values in spent.learner.items()}
    told = ", ".join(
        f"{label} {value / total:.0%}"
        for label, value in sorted(parts.items(), key=lambda part: -part[1])
        if value / total >= 0.005
    )
    return f"Of {total:,.0f} s the learner tells of {sum(parts.values()) / total:.0%}: {told}."

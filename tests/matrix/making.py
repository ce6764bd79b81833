"""A cell is made: its runs are started from the shared warm start, one after the other.

Invariant: a cell's file is written when all of it is there, and what a cell that was cut off has
left is made anew; sets of stored groups are kept and shared.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.commands import quickstart
from deploy.filtering import choosing, running
from deploy.run import generation, program
from oapl.config import RunConfig
from tests.learning import warm
from tests.matrix.plan import GROUP_SIZE, GROUPS, RIGHT, STEPS, method_of
from tests.matrix.reading import Part, cell_of
from tests.matrix.records import Cell, Method, Place

EVALUATIONS, PROBLEMS = 4, 128
"""Of a cell after the one before training, as often as publications allow; problems of each."""
PUBLISHED = STEPS // EVALUATIONS
"""Learner steps between two publications of a run from a set, which are for evaluations alone."""
SECOND = 1000
"""Added to a seed for the problems of a second round."""
DONE = "done.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What all cells begin with.

    Attributes:
        folder: Of everything.
        problems: Folder of problems to train on and to be examined in.
        model: The model's.
    """

    folder: Path
    problems: Path
    model: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Stored groups, and what they cost."""

    path: Path
    groups: int
    seconds: float


def warm_start(folder: Path) -> WarmStart:
    """Problems and model, made once and to the end.

    Raises:
        KeyboardInterrupt: A signal ended it before its end.
    """
    made = folder / "warm"
    if not (made / DONE).is_file():
        shutil.rmtree(made, ignore_errors=True)
        warm.warm_start(folder)
        (made / DONE).write_text("{}\n")
    return WarmStart(folder=folder, problems=made / "start", model=made / "sft" / "model")


def make(start: WarmStart, place: Place) -> Cell:
    """Train, and read the runs' own lines.

    Raises:
        KeyboardInterrupt: A signal ended it before its end.
    """
    began, method = time.monotonic(), method_of(place)
    if method.way == "live":
        parts = [_trained(_live(start, place, method))]
    elif method.way == "two rounds":
        parts = _two_rounds(start, place, method)
    else:
        seed = place.seed if method.way == "own set" else 0
        parts = [_on_set(start, place, method, _set(start, seed), STEPS)]
    return cell_of(place, parts, time.monotonic() - began)


def _two_rounds(start: WarmStart, place: Place, method: Method) -> list[Part]:
    """Half of the rollouts by the warm start, half by what the first half has made of it."""
    parts, now = [], start
    for number in (1, 2):
        name = f"{place.name}-round{number}"
        seed = place.seed + SECOND * (number - 1)
        found = _generated(now, f"{name}-set", seed, GROUPS // 2)
        parts.append(_on_set(now, place, method, found, STEPS // 2, name))
        now = replace(now, model=now.folder / "runs" / name / "model")
    return parts


def _on_set(
    start: WarmStart, place: Place, method: Method, found: Set, steps: int, name: str = ""
) -> Part:
    path = _right_answers(found) if method.only_right else found.path
    config = _configure(
        start,
        name or place.name,
        place.seed,
        steps,
        PUBLISHED,
        'replay.source="stored"',
        f"replay.path={json.dumps(str(path))}",
        *method.overrides,
    )
    part = _trained(replace(config, objective=dict(method.objective)))
    return replace(part, set_rollouts=GROUP_SIZE * found.groups, set_seconds=found.seconds)


def _live(start: WarmStart, place: Place, method: Method) -> RunConfig:
    config = _configure(
        start,
        place.name,
        place.seed,
        method.steps or STEPS,
        place.lag,
        *_drawn_once(place.seed, GROUPS),
        *method.overrides,
    )
    return replace(config, objective=dict(method.objective))


def _drawn_once(seed: int, count: int) -> tuple[str, ...]:
    """Problems that are drawn once each, so that a run has as many rollouts, not as many steps."""
    return (f"data.sources.0.sample={count}", f"data.sources.0.seed={seed}", "data.epochs=1")


def _configure(
    start: WarmStart, name: str, seed: int, steps: int, interval: int, *overrides: str
) -> RunConfig:
    """The quickstart's second half, but for what a cell is about; no lead."""
    common = (
        f"run.dir={json.dumps(str(start.folder / 'runs'))}",
        f"run.name={name}",
        f"run.max_steps={steps}",
        f"sync.interval={interval}",
        "sync.max_lead=0",
        "checkpoint.every_syncs=0",
        f"eval.every_syncs={max(1, steps // EVALUATIONS // interval)}",
        "eval.ks=[8]",
        f"eval.sources.0.sample={PROBLEMS}",
        'tracking.console="off"',
        'tracking.store_groups="off"',
    )
    config = warm.configure(start.folder, seed, *common, *overrides)
    return quickstart.reinforcement(config, start.problems, start.model)


def _trained(config: RunConfig) -> Part:
    shutil.rmtree(config.folder, ignore_errors=True)  # of a cell that was cut off
    if program.train(config).signal:
        raise KeyboardInterrupt
    shutil.rmtree(config.folder / "checkpoints")
    lines = (config.folder / "metrics.jsonl").read_text().splitlines()
    return Part(lines=[json.loads(line) for line in lines])


def _set(start: WarmStart, seed: int) -> Set:
    """What the warm start answers, made once for all cells that train on it."""
    return _generated(start, f"set-seed{seed}", seed, GROUPS)


def _generated(start: WarmStart, name: str, seed: int, count: int) -> Set:
    """Made in one go, so that its seconds are known."""
    config = _configure(start, name, seed, STEPS, STEPS, *_drawn_once(seed, count))
    done = config.folder / DONE
    if not done.is_file():
        shutil.rmtree(config.folder, ignore_errors=True)
        began = time.monotonic()
        outcome = generation.generate(config)
        if outcome.signal:
            raise KeyboardInterrupt
        assert outcome.groups == count, outcome.cause
        done.write_text(json.dumps({"seconds": time.monotonic() - began}) + "\n")
    seconds = json.loads(done.read_text())["seconds"]
    return Set(path=config.folder / "groups", groups=count, seconds=seconds)


def _right_answers(found: Set) -> Path:
    """Of a set, by `oapl filter`; a filtered set is whole or absent."""
    out = found.path.with_name("right")
    if not out.exists():
        filters = choosing.from_words([["positives_only"]], RIGHT)
        running.apply(found.path, out, filters, threshold=RIGHT)
    return out

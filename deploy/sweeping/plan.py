"""What a sweep will do: each cell's settings, checked, and what of it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.checks.dating import TRAINING
from deploy.checks.stages import check_all, look_at_run
from deploy.sweeping.grid import Cell, grid
from learner.checkpoints import resuming, snapshots
from oapl.config import RunConfig
from oapl.config.messages import shown
from oapl.config.objective import verb_of
from oapl.config.toml import load_config
from oapl.errors import CheckpointError, InputError
from oapl.tracking import status
from oapl.tracking.lines import MESSAGES_FILE

PLACES = ("run", "run.dir", "run.name")
"""Settings that say where a run is; of a sweep's runs the sweep says it."""
FREE_SECTIONS = ("checkpoint", "cluster", "restarts", "tracking")
FREE = ("run.dir", "run.max_steps", "run.max_hours", "data.date")
"""What may change between two calls of a sweep without making a cell another one."""
TOLD = " failed: "
"""Before the cause, in the last message of a run that has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cell with its configuration.

    Attributes:
        words: The command that runs it, behind `oapl`.
        is_done: Its run has said that it is done, and would be the same now.
        begun: Learner step of its last checkpoint; 0 where there is none.
    """

    cell: Cell
    config: RunConfig
    words: tuple[str, ...]
    is_done: bool = False
    begun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep.

    Attributes:
        folder: Holds the run folders and the table.
        cells: In the order in which they run.
        unchecked: What a dry run could not look at.
    """

    folder: Path
    cells: tuple[Planned, ...]
    unchecked: tuple[str, ...] = ()


def plan(
    recipe: Path,
    words: Sequence[str],
    cases: Sequence[Sequence[str]] = (),
    *,
    is_dry: bool = False,
) -> Plan:
    """Resolve every cell, and refuse what cannot work: all of it before anything starts.

    Args:
        recipe: Of all cells.
        words, cases: See `deploy.sweeping.grid.grid`.
        is_dry: Nothing follows, so a model that is not here is no error.

    Raises:
        InputError: The grid is wrong, or cells are: each whose settings do not fit together is
            named; of those that do not fit model, data or memory the first.
    """
    common, cells = grid(words, cases)
    for cell in cells:
        _check_places(cell)
    base = load_config(recipe, common).run
    folder = Path(base.dir).expanduser().absolute() / f"{base.name}-sweep"
    found, problems = [], []
    for cell in cells:
        try:
            found.append(_planned(recipe, common, cell, folder))
        except InputError as error:
            problems.append(_named(cell, error))
    if problems:
        raise InputError("\n".join(problems))
    return Plan(folder=folder, cells=tuple(found), unchecked=_preflight(found, is_dry))


def _check_places(cell: Cell) -> None:
    for word in cell.overrides:
        if word.partition("=")[0].strip() in PLACES:
            raise InputError(
                f"{word}: where a cell's run is, is not to be varied; each has a folder of its own"
            )


def _named(cell: Cell, error: Exception) -> str:
    return f"cell {cell.name} ({cell}): {error}"


def _planned(recipe: Path, common: Sequence[str], cell: Cell, folder: Path) -> Planned:
    place = (f"run.dir={json.dumps(str(folder))}", f"run.name={json.dumps(cell.name)}")
    overrides = [*common, *cell.overrides, *place]
    config = load_config(recipe, overrides)
    check_all(config)
    if changed := changes(config):
        raise InputError(
            f"{config.folder} was begun with other settings ({'; '.join(changed)}); set them back, "
            "remove that folder, or give another run.name"
        )
    last = snapshots.latest(config.folder / "checkpoints")
    return Planned(
        cell=cell,
        config=config,
        words=(verb_of(config), str(recipe), *overrides),
        is_done=is_done(config),
        begun=0 if last is None else resuming.step_of(last),
    )


def _preflight(cells: Sequence[Planned], is_dry: bool) -> tuple[str, ...]:
    """Look at models, data and memory; of a model that is not here once is enough."""
    unseen: dict[str, Sequence[str]] = {}
    for planned in cells:
        model = planned.config.model.path
        if planned.is_done or model in unseen:
            continue
        try:
            reports = look_at_run(planned.config, is_dry=is_dry)
        except (InputError, CheckpointError) as error:
            raise InputError(_named(planned.cell, error)) from error
        if unchecked := [line for report in reports for line in report.unchecked]:
            unseen[model] = list(dict.fromkeys(unchecked))
    return tuple(line for lines in unseen.values() for line in lines)


def is_done(config: RunConfig) -> bool:
    """Whether the run there has ended by itself, and had as many steps to make."""
    found = status.read(config.folder)
    if found is None or found.phase != status.DONE or not (config.folder / "model").is_dir():
        return False
    before = _before(config)
    return before is not None and before.run.max_steps >= config.run.max_steps


def _before(config: RunConfig) -> RunConfig | None:
    """The settings with which the run there began last; None where none has."""
    file = config.folder / TRAINING
    return load_config(file) if file.is_file() else None


def changes(config: RunConfig) -> list[str]:
    """List the settings in which the run there was another one; those of `FREE` are none."""
    return list(_changes(config))


def _changes(config: RunConfig) -> Iterator[str]:
    before = _before(config)
    if before is None:
        return
    old, new = dict(_flat(asdict(before))), dict(_flat(asdict(config)))
    for key in sorted({*old, *new}):
        if key in FREE or key.partition(".")[0] in FREE_SECTIONS or old.get(key) == new.get(key):
            continue
        yield f"{key} was {shown(old[key]) if key in old else 'not there'}"


def _flat(table: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(table, dict | list | tuple) or not table:
        yield key, list(table) if isinstance(table, tuple) else table
        return
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for name, value in items:
        yield from _flat(value, f"{key}.{name}" if key else str(name))


def reason(folder: Path) -> str:
    """Tell in a line why the run there failed; empty where it has not said so."""
    found, file = status.read(folder), folder / MESSAGES_FILE
    if found is None or found.phase != status.FAILED or not file.is_file():
        return ""
    said = file.read_text(errors="replace").splitlines()
    return next((line.partition(TOLD)[2] for line in reversed(said) if TOLD in line), "")

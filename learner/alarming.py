"""The alarms of a run at work: they see each line, are told, kept with a rollout, and acted upon.

Invariants: an alarm that goes on is told once, and again only after it was off for a window; a run
that goes on knows what it has told; the steps and groups of which it is told are those of the line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl.accounting import Row
from oapl.alarms.base import ALARMS, AlarmFile
from oapl.config import RunConfig
from oapl.groups_file import StoredGroup
from oapl.interfaces import Tracker
from oapl.records import CreditedGroup, Metrics
from oapl.tracking.rollouts import rows_of

FOLDER = "alarms"
"""Folder of the run's that holds a rollout for each time an alarm was told."""
NEVER = -(10**9)

Acts = Mapping[str, Callable[[str], None]]
"""By action of `alarms.actions`, what does it, given the cause in words."""


class Alarming:
    """Sees lines, and tells.

    Args:
        config: The run's.
        tracker: Is told.
        acts: What the alarms may do.
        rows: The run's own lines of before, by which nothing is told.
    """

    def __init__(
        self, config: RunConfig, tracker: Tracker, acts: Acts, rows: Sequence[Row] = ()
    ) -> None:
        self._config = config.alarms
        self._folder: Path = config.folder / FOLDER
        self._tracker = tracker
        self._acts = acts
        self._files: dict[str, AlarmFile] = {name: ALARMS.load(name) for name in ALARMS.names()}
        self._alarms = {name: file.build(config.alarms) for name, file in self._files.items()}
        self._last_on = dict.fromkeys(self._alarms, NEVER)
        self._seen = 0
        for row in rows:
            self._see(row)

    def saw(self, step: int, line: Metrics, groups: Sequence[CreditedGroup]) -> Metrics:
        """Take in the line of a learner step, and do what is due.

        Args:
            step: Learner steps of the run.
            line: Its metrics.
            groups: What the step was made of.

        Returns:
            `alarms/NAME`, 1 where it is on, of each alarm.
        """
        told_before = {name: self._seen + 1 - at for name, at in self._last_on.items()}
        found = self._see(line)
        for name, words in found.items():
            if words and told_before[name] > self._config.window:
                self._tell(name, step, words, groups)
        return {f"alarms/{name}": float(bool(words)) for name, words in found.items()}

    def _see(self, line: Row) -> dict[str, str]:
        self._seen += 1
        found = {name: alarm.see(line) for name, alarm in self._alarms.items()}
        self._last_on |= {name: self._seen for name, words in found.items() if words}
        return found

    def _tell(self, name: str, step: int, words: str, groups: Sequence[CreditedGroup]) -> None:
        action = self._config.actions.get(name, "none")
        parts = [f"alarm {name} at step {step}: {words}"]
        if specimen := self._specimen(name, groups, step):
            path = self._folder / f"step-{step}-{name}.json"
            path.parent.mkdir(exist_ok=True)
            about = {"alarm": name, "step": step, "cause": words, "rollout": specimen}
            path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
            parts.append(f"a rollout that shows it: {FOLDER}/{path.name}")
        if action != "none":
            parts.append(f"alarms.actions: {action}")
        self._tracker.message("; ".join(parts))
        self._tracker.alert(f"alarm {name}", f"step {step}: {words}")
        if action != "none":
            self._acts[action](f"alarm {name}")

    def _specimen(
        self, name: str, groups: Sequence[CreditedGroup], step: int
    ) -> dict[str, Any] | None:
        """Of all rollouts the one that shows it best, as a person reads it."""
        shows = self._files[name].shows
        best, found = float("-inf"), None
        for group in groups:
            for index, rollout in enumerate(group.scored.group.rollouts):
                if found is None or shows(rollout) > best:
                    best, found = shows(rollout), (group, index)
        if found is None:
            return None
        group, index = found
        return rows_of(StoredGroup.from_credited(group, step))[index]

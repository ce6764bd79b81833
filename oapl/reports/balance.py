"""The accounting balance: where every draw of a prompt, and every token, has gone."""

from __future__ import annotations

from dataclasses import dataclass

from oapl.reports._drawing.panels import BarGroup, Panel, Shares
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Accounting balance",
    section="accounting",
    place=20,
    reads="Every draw of a prompt ends in one fate. What was cleared at a synchronisation, given "
    "back or lost with a worker goes to the front of the queue and is drawn again: its tokens are "
    "thrown away, the draw is not.",
)
MOST_RUNS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Where a run's draws and tokens have gone.

    Attributes:
        trained, dropped, failed: Draws by fate.
        waiting: Kept groups that are in the buffer at the last line.
        in_flight: Draws that workers hold, or that wait for one, at the last line.
        steps_took: Groups that the learner steps must have taken; None where that is not known.
        finished, aborted, cleared, refused: Tokens of responses that were finished and kept, cut
            off by a synchronisation, cleared with their groups, and refused.
    """

    trained: float
    dropped: float
    failed: float
    waiting: float
    in_flight: float
    steps_took: float | None
    finished: float
    aborted: float
    cleared: float
    refused: float


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    runs = [run for run in study.runs if run.total("replay/accepted")][:MOST_RUNS]
    if not runs:
        return Absent("these runs have drawn no prompts: their batches are examples or stored sets")
    found = {run.name: balance_of(run) for run in runs}
    draws = {
        "trained on": ("trained", 0),
        "dropped by a filter or a skipped step": ("dropped", 1),
        "failed": ("failed", 3),
        "in the buffer": ("waiting", 2),
        "on their way": ("in_flight", 7),
    }
    tokens = {
        "of finished responses that were kept": ("finished", 0),
        "cut off by a synchronisation": ("aborted", 1),
        "cleared at a synchronisation": ("cleared", 3),
        "refused": ("refused", 5),
    }
    panels = (
        _panel("draws by fate", "draws (groups)", found, draws),
        _panel("tokens generated, those of evaluations included", "tokens", found, tokens),
    )
    return Panels(panels=panels, note=_note(found))


def balance_of(run: Run) -> Balance:
    """Add up what a run's lines have counted.

    Args:
        run: One that has drawn prompts.
    """
    accepted, dropped = run.total("replay/accepted"), run.total("replay/dropped")
    cleared, waiting = run.total("replay/cleared_groups"), _last(run, "replay/size")
    moved = run.total("replay/moved_tokens")  # cut off in one engine, ended in another
    aborted = run.total("rollout/aborted_tokens") - moved
    cleared_tokens, refused = run.total("replay/cleared_tokens"), run.total("replay/refused_tokens")
    return Balance(
        trained=accepted - dropped - cleared - waiting,
        dropped=dropped,
        failed=run.total("replay/failed"),
        waiting=waiting,
        in_flight=_last(run, "replay/in_flight") + _last(run, "replay/queued"),
        steps_took=_steps_took(run),
        finished=max(run.total("rollout/tokens") + moved - cleared_tokens - refused, 0.0),
        aborted=aborted,
        cleared=cleared_tokens,
        refused=refused,
    )


def _last(run: Run, name: str) -> float:
    found = run.curve(name)
    return found.last if found else 0.0


def _steps_took(run: Run) -> float | None:
    """Where each group is used once: the steps with a live buffer, times their groups."""
    size = run.setting("rollout.group_size")
    batch = run.setting("learner.batch_size")
    uses = run.setting("replay.max_uses", 1) * run.setting("learner.updates_per_batch", 1)
    if not size or not batch or uses != 1 or run.total("replay/history"):
        return None
    skipped = run.total("faults/skipped_steps")
    steps = len(run.curve("replay/accepted")) - skipped
    return steps * (batch // size)


def _panel(
    title: str, unit: str, found: dict[str, Balance], pieces: dict[str, tuple[str, int]]
) -> Panel:
    groups = [
        BarGroup(
            label=label,
            place=place,
            values=tuple(max(getattr(one, name), 0.0) for one in found.values()),
        )
        for label, (name, place) in pieces.items()
    ]
    there = tuple(group for group in groups if sum(group.values))
    return Shares(title=title, x=unit, wholes=tuple(found), pieces=there)


def _note(found: dict[str, Balance]) -> str:
    """Of which runs the two sides agree, and by how much they differ in others."""
    told = {name: one for name, one in found.items() if one.steps_took is not None}
    equal = [name for name, one in told.items() if one.trained == one.steps_took]
    lines = [
        f"{name}: its learner steps took {one.steps_took:,.0f} groups, the buffer's counts leave "
        f"{one.trained:,.0f} for them."
        for name, one in told.items()
        if name not in equal
    ]
    if equal:
        took = ", ".join(dict.fromkeys(f"{told[name].steps_took:,.0f}" for name in equal))
        lines.insert(
            0, f"It adds up: the learner steps took the {took} groups that the counts leave."
        )
    if equal and lines[1:]:
        lines[0] = f"{', '.join(equal)}: {lines[0]}"
    return "\n".join(lines)

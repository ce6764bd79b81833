"""What a person sees of a run: fed with metrics and messages, drawn by rich at any time.

Invariants: what is shown was in a record or a message (no look-ups elsewhere); a number that is not
there is a dash; rendering changes nothing; the drawing fits the terminal, least important last.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oapl.records import StepMetrics
from oapl.tracking.drawing import (
    DASH,
    LEAST_BAR,
    SPARK_WIDTH,
    Rows,
    bar,
    duration,
    figure,
    pairs,
    sparkline,
)
from oapl.tracking.status import DONE, ENDS, GENERATE, PHASES, STOPPED
from oapl.tracking.view_parts import most_telling, said, scores

HISTORY = 400
ETA_STEPS = 50
"""Steps of which the pace is the mean."""
LEAST_ETA_STEPS = 5
"""Timed from end to end, of which a pace is told: the first step of a process, which also waits for
all that starts, is none of them, and two or three may lie before or behind a publication."""
NUM_MESSAGES = 12
KEPT_MESSAGES = 200
LEAST_MESSAGES = 3
TWO_COLUMNS, THREE_COLUMNS = 68, 126
"""Widths inside the frame from which learning, flow and evaluation stand side by side."""
GAP = 3
ENDS_STYLE = {DONE: "bold reverse green", STOPPED: "bold reverse yellow"}
BUSY, IDLE = 0.15, 0.4  # idle shares below and above which a bar is green and red
Clock = Callable[[], float]

RATES = ("rollout/tokens_per_s", "idle/learner", "idle/engines")


class View:
    """What is known of the run, and how it is drawn. Feed it records, render it at any time.

    Times are unix seconds: those of the records where they come from a file, else the clock's.

    Args:
        title: The run's name.
        subtitle: In small letters, below: objective and model.
        max_steps: Learner step at which the run, or its stage, ends.
        interval: Learner steps between two publications.
        groups_per_step: Groups that a learner step takes.
        start: The learner step after which the run began.
        first: That after which the stage begins, from which periods count.
        began: When it began; None means now.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        title: str,
        subtitle: str,
        max_steps: int,
        interval: int,
        groups_per_step: int,
        start: int = 0,
        first: int = 0,
        began: float | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.title = title
        self.subtitle = subtitle
        self.max_steps = max_steps
        self.step = start
        self._first = first
        self._lock = threading.Lock()  # rich draws from a thread of its own
        self._interval = interval
        self._groups_per_step = groups_per_step
        self._clock = clock
        self._began = clock() if began is None else began
        self._phase = ""
        self._phase_since = self._began
        self._made: tuple[int, int] | None = None  # groups to be stored, where nobody trains
        self._values: dict[str, float] = {}
        self._faults: Counter[str] = Counter()
        self._alarms: dict[str, bool] = {}  # those that went on, and whether they are
        self._evaluations: dict[str, list[float]] = {}
        self._rewards: deque[float] = deque(maxlen=HISTORY)
        self._recent: deque[Mapping[str, float]] = deque(maxlen=min(interval, HISTORY))
        self._since_line: deque[Mapping[str, float]] = deque(maxlen=HISTORY)
        self._is_told = False
        self._pace: deque[tuple[float, int]] = deque(maxlen=ETA_STEPS + 1)
        self._messages: deque[tuple[float, str]] = deque(maxlen=KEPT_MESSAGES)

    def feed(self, metrics: StepMetrics, at: float | None = None) -> None:
        """Take in a line of metrics.

        Args:
            metrics: A learner step's, or an evaluation's.
            at: When it was written; None means now.
        """
        with self._lock:
            self._feed(metrics, self._clock() if at is None else at)

    def _feed(self, metrics: StepMetrics, at: float) -> None:
        self.step = max(self.step, metrics.step)
        for name, value in metrics.values.items():
            if name.startswith("eval/"):
                self._evaluations.setdefault(name, []).append(value)
            else:
                self._values[name] = value
            if name.startswith("alarms/") and (value or name in self._alarms):
                self._alarms[name] = bool(value)
            if name.startswith("faults/") and value:
                self._faults[name.removeprefix("faults/")] += int(value)
        if "time/step_s" in metrics.values:
            if at >= self._began:  # steps before a resume say nothing of this process's pace
                self._pace.append((at, metrics.step))
            self._smooth(metrics.values)
            if self._is_told:
                self._since_line.clear()
                self._is_told = False
            self._since_line.append(metrics.values)
        reward = metrics.values.get("reward/mean", math.nan)
        if math.isfinite(reward):
            self._rewards.append(reward)

    def made(self, groups: int, total: int) -> None:
        """Take in how many of the groups that are to be stored are there."""
        with self._lock:
            self._made = (groups, total)

    def _smooth(self, values: Mapping[str, float]) -> None:
        """Rates as means over a period: the first step of one waits, the others hardly do."""
        self._recent.append(values)
        for name in RATES:
            seen = [(row["time/step_s"], row[name]) for row in self._recent if name in row]
            seconds = sum(weight for weight, _ in seen)
            if seconds > 0:
                self._values[name] = sum(weight * rate for weight, rate in seen) / seconds

    def say(self, text: str, at: float | None = None) -> None:
        """Take in a message.

        Args:
            text: One line, or several that are shown as one.
            at: When it was written; None means now.
        """
        with self._lock:
            self._messages.append((self._clock() if at is None else at, text))

    def enter(self, phase: str, at: float | None = None) -> None:
        """Take note of a phase, or of an end.

        Args:
            phase: One of `PHASES` or `ENDS` of `oapl.tracking.status`.
            at: When it began; None means now.
        """
        with self._lock:
            if phase != self._phase:
                self._phase = phase
                self._phase_since = self._clock() if at is None else at

    @property
    def _is_over(self) -> bool:
        return self._phase in ENDS

    def _now(self) -> float:
        """The clock stands still when the run is over."""
        return self._phase_since if self._is_over else self._clock()

    def eta_s(self) -> float | None:
        """Estimate the seconds to `max_steps` at the last steps' pace; None while unknown."""
        if len(self._pace) <= LEAST_ETA_STEPS:
            return None
        (since, first), (_, last) = self._pace[0], self._pace[-1]
        return (self.max_steps - self.step) * (self._now() - since) / (last - first)

    def line(self) -> str:
        """Tell the run in one line; what ended without a step tells its end alone.

        Figures are means of the steps since the line before, rates of the last period's, and each
        part says of how many steps.
        """
        with self._lock:
            told = [
                f"step {self.step}/{self.max_steps}" if self.step or not self._is_over else "",
                self._part(len(self._since_line), self._means()),
                self._part(len(self._recent), self._rates()),
                self._phase if self._is_over else f"eta {duration(self.eta_s())}",
            ]
        return "  ".join(part for part in told if part and DASH not in part)

    def told(self) -> None:
        """Note that the line was printed: the next one tells of what comes from now on."""
        with self._lock:
            self._is_told = True

    def _part(self, num_steps: int, figures: Sequence[str]) -> str:
        shown = "  ".join(text for text in figures if DASH not in text)
        return f"{'' if num_steps == 1 else f'mean of {num_steps} steps: '}{shown}" if shown else ""

    def _means(self) -> list[str]:
        of = {
            "reward": "reward/mean",
            "loss": self._loss_name(),
            "length": "rollout/length_mean",
            "lag": "replay/lag_mean",
            "buffer": "replay/size",
        }
        return [f"{label} {self._mean_since_line(name)}" for label, name in of.items()]

    def _mean_since_line(self, name: str) -> str:
        seen = [row[name] for row in self._since_line if name in row]
        finite = [value for value in seen if math.isfinite(value)]
        return figure(math.fsum(finite) / len(finite)) if finite else DASH

    def _rates(self) -> list[str]:
        return [
            f"{self._number('rollout/tokens_per_s')} tok/s",
            f"idle learner {self._percent('idle/learner')} engines {self._percent('idle/engines')}",
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.size.height if console.is_terminal else 10**6
        with self._lock:
            yield self._drawn(options.max_width, height - 1)  # the cursor's line

    def _drawn(self, width: int, height: int) -> RenderableType:
        margin = 2 if width >= 96 else 1
        inner = width - 2 * margin - 2
        head: list[RenderableType] = [self._progress(), self._phases()]
        left = height - 2 - len(head)
        parts: list[RenderableType] = head
        if self._made is None or self._values:
            body, rows = self._body(inner)
            left -= rows + 1  # a blank line
            parts += [Text(), body]
        messages = min(len(self._messages), LEAST_MESSAGES)
        if self._evaluations and inner < THREE_COLUMNS:
            room = left - 2 - (messages + 1 if messages else 0)
            shown = min(len(most_telling(self._evaluations)), room)
            if shown > 0:
                parts += [Text(), self._scores(shown, inner)]
                left -= shown + 2
        lines = list(said(self._messages, min(NUM_MESSAGES, left - 1)))
        parts += [Text(), *lines] if lines else []
        left -= len(lines) + 1
        title = Text.assemble((" oapl ", "bold reverse cyan"), f" {self.title} ")
        return Panel(
            Group(*parts),
            title=title,
            title_align="left",
            subtitle=Text(f" {self.subtitle} ", style="dim"),
            subtitle_align="right",
            border_style="cyan",
            box=box.ROUNDED,
            padding=(1 if left >= 2 else 0, margin),
        )

    def _body(self, width: int) -> tuple[RenderableType, int]:
        """What is known, in as many columns as fit, and how many rows that takes."""
        if width < TWO_COLUMNS:
            learning, flow = self._learning(width), self._flow(width)
            stacked = Group(pairs("learning", learning), Text(), pairs("flow", flow))
            return stacked, len(learning) + len(flow) + 3
        is_wide = width >= THREE_COLUMNS and bool(self._evaluations)
        each = width // (2 + is_wide) - GAP
        learning, flow = self._learning(each), self._flow(each)
        grid = Table.grid(expand=True, padding=(0, GAP, 0, 0))
        cells: list[RenderableType] = [pairs("learning", learning), pairs("flow", flow)]
        rows = max(len(learning), len(flow))
        if is_wide:
            cells.append(self._scores(rows, each))
        for _ in cells:
            grid.add_column(ratio=1)
        grid.add_row(*cells)
        return grid, rows + 1

    def _progress(self) -> RenderableType:
        made, wanted = self.step - self._first, self.max_steps - self._first
        unit, at, end = "step", self.step, self.max_steps
        if self._made is not None:
            unit, (at, end) = "groups", self._made
            made, wanted = at, max(end, 1)
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        elapsed = duration(self._now() - self._began)
        times = f"{elapsed} in all"
        if not self._is_over:
            left = f"   {duration(self.eta_s())} to go" if self._made is None else ""
            times = f"{elapsed} gone{left}"
        grid.add_row(
            Text.assemble(f"{unit} ", (f"{at}", "bold"), f" / {end}"),
            ProgressBar(total=wanted, completed=made, complete_style="cyan"),
            Text(f"{made / wanted:4.0%}   {times}"),
        )
        return grid

    def _phases(self) -> Text:
        """start · evaluate · train · publish · finish, the present one marked, and its time."""
        line = Text(no_wrap=True, overflow="ellipsis")
        phases = PHASES if self._made is None else (PHASES[0], GENERATE, PHASES[-1])
        for index, name in enumerate(phases):
            line.append(" · " if index else "", "dim")
            line.append(f" {name} ", "bold reverse cyan" if name == self._phase else "dim")
        if self._is_over:
            line.append("  ")
            line.append(f" {self._phase} ", ENDS_STYLE.get(self._phase, "bold reverse red"))
        elif self._phase:
            line.append(f"   for {duration(self._clock() - self._phase_since)}", "dim")
        return line

    def _learning(self, width: int) -> Rows:
        uniform = self._percent("reward/uniform_groups")
        return [
            ("reward", self._reward(width)),
            ("loss", Text(self._number(self._loss_name()))),
            ("entropy", Text(self._number("policy/entropy", " nats"))),
            ("gradient", Text(self._number("policy/grad_norm"))),
            ("policy KL", Text(self._number("policy/policy_kl", " nats"))),
            ("length", Text(self._length())),
            ("uniform", Text(uniform if uniform == DASH else f"{uniform} of groups")),
            ("faults", self._fault_counts(width - len("policy KL") - 2)),
            *(
                [("alarms", self._alarms_told(width - len("policy KL") - 2))]
                if self._alarms
                else []
            ),
        ]

    def _flow(self, width: int) -> Rows:
        room = width - len("learner idle") - 2
        return [
            ("weights", Text(self._weights())),
            ("lag", Text(self._lag())),
            ("buffer", self._buffer(room)),
            ("in flight", Text(self._in_flight())),
            ("generated", Text(self._number("rollout/tokens_per_s", " tokens/s"))),
            ("trained", Text(self._number("perf/tokens_per_s", " tokens/s"))),
            ("learner idle", self._idle("idle/learner", room)),
            ("engines idle", self._idle("idle/engines", room)),
        ]

    def _in_flight(self) -> str:
        text = self._number("replay/in_flight", " groups")
        moved = self._values.get("replay/moved_groups", 0)
        return f"{text}, {moved:.0f} moved" if moved else text

    def _reward(self, width: int) -> Text:
        value = f"{self._number('reward/mean')}  "
        room = min(SPARK_WIDTH, width - len("policy KL") - 2 - len(value))
        spark = sparkline(self._rewards, room) if room >= LEAST_BAR else ""
        return Text.assemble((value, "bold"), (spark, "green"), overflow="crop")

    def _weights(self) -> str:
        version = self._values.get("weights/version")
        if version is None:
            return DASH
        left = self._interval - (self.step - self._first) % self._interval
        return f"version {version:.0f}" + (
            f", next in {left}" if self.step < self.max_steps else ""
        )

    def _length(self) -> str:
        if "rollout/length_mean" not in self._values:
            return DASH
        cut = self._percent("rollout/truncated_rate")
        return f"{self._number('rollout/length_mean', ' tokens')}, {cut} cut off"

    def _lag(self) -> str:
        if "replay/lag_mean" not in self._values:
            return DASH
        return f"{self._number('replay/lag_mean')} (largest {self._number('replay/lag_max')})"

    def _fault_counts(self, room: int) -> Text:
        if not self._faults:
            return Text("none" if self._values else DASH)
        counts = (f"{count} {name.replace('_', ' ')}" for name, count in self._faults.most_common())
        text = Text(", ".join(counts), "yellow")
        text.truncate(room, overflow="ellipsis")  # a table's cell is cut without a sign
        return text

    def _alarms_told(self, room: int) -> Text:
        text = Text(no_wrap=True)
        for name, is_on in self._alarms.items():
            style = "bold reverse red" if is_on else "dim"
            text.append(name.removeprefix("alarms/"), style).append(" ")
        text.truncate(room, overflow="ellipsis")
        return text

    def _buffer(self, room: int) -> RenderableType:
        size = self._values.get("replay/size")
        if size is None:
            return Text(DASH)
        steps = size / self._groups_per_step
        full = min(1.0, steps / self._interval)
        return bar(full, f"{size:.0f} = {steps:.1f} steps", "blue", room)

    def _idle(self, name: str, room: int) -> RenderableType:
        share = self._values.get(name)
        if share is None:
            return Text(DASH)
        style = "green" if share < BUSY else "yellow" if share < IDLE else "red"
        return bar(share, f"{share:.0%}", style, room)

    def _scores(self, most: int, width: int) -> RenderableType:
        return scores(self._evaluations, most, with_curves=width >= TWO_COLUMNS)

    def _loss_name(self) -> str:
        if "loss/total" in self._values:
            return "loss/total"
        return next((name for name in self._values if name.startswith("loss/")), "loss/")

    def _number(self, name: str, unit: str = "") -> str:
        value = self._values.get(name)
        return DASH if value is None else figure(value) + unit

    def _percent(self, name: str) -> str:
        value = self._values.get(name)
        return DASH if value is None else f"{value:.0%}"

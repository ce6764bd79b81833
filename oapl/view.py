"""What a person sees of a run: fed with metrics and messages, drawn by rich at any time.

Invariants: what is shown was in a record or a message (no look-ups elsewhere); a number that is not
there is a dash; rendering changes nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oapl.records import StepMetrics

DASH = "–"
BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24
BAR_WIDTH = 16
HISTORY = 400
ETA_STEPS = 50
NUM_MESSAGES = 6
BUSY, IDLE = 0.15, 0.4  # idle shares below and above which a bar is green and red
WARNINGS = ("died", "killing", "fail", "warning", "did not", "interrupted", "non-finite", "refused")

Clock = Callable[[], float]

RATES = ("rollout/tokens_per_s", "idle/learner", "idle/engines")


class View:
    """What is known of the run, and how it is drawn. Feed it records, render it at any time."""

    def __init__(
        self,
        *,
        title: str,
        subtitle: str,
        max_steps: int,
        interval: int,
        groups_per_step: int,
        start: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.title = title
        self.subtitle = subtitle
        self.max_steps = max_steps
        self.step = start
        self._lock = threading.Lock()  # rich draws from a thread of its own
        self._interval = interval
        self._groups_per_step = groups_per_step
        self._clock = clock
        self._began = clock()
        self._values: dict[str, float] = {}
        self._evaluations: dict[str, list[float]] = {}
        self._rewards: deque[float] = deque(maxlen=HISTORY)
        self._recent: deque[Mapping[str, float]] = deque(maxlen=min(interval, HISTORY))
        self._pace: deque[tuple[float, int]] = deque([(clock(), start)], maxlen=ETA_STEPS)
        self._messages: deque[tuple[str, str]] = deque(maxlen=NUM_MESSAGES)

    def feed(self, metrics: StepMetrics) -> None:
        """Take in a line of metrics."""
        with self._lock:
            self._feed(metrics)

    def _feed(self, metrics: StepMetrics) -> None:
        self.step = max(self.step, metrics.step)
        for name, value in metrics.values.items():
            if name.startswith("eval/"):
                self._evaluations.setdefault(name, []).append(value)
            else:
                self._values[name] = value
        if "time/step_s" in metrics.values:
            self._pace.append((self._clock(), metrics.step))
            self._smooth(metrics.values)
        reward = metrics.values.get("reward/mean", math.nan)
        if math.isfinite(reward):
            self._rewards.append(reward)

    def _smooth(self, values: Mapping[str, float]) -> None:
        """Rates as means over a period: the first step of one waits, the others hardly do."""
        self._recent.append(values)
        for name in RATES:
            seen = [(row["time/step_s"], row[name]) for row in self._recent if name in row]
            seconds = sum(weight for weight, _ in seen)
            if seconds > 0:
                self._values[name] = sum(weight * rate for weight, rate in seen) / seconds

    def say(self, text: str) -> None:
        """Take in a message."""
        with self._lock:
            self._messages.append((time.strftime("%H:%M:%S"), text))

    def eta_s(self) -> float | None:
        """Seconds to `max_steps` at the pace of the last steps."""
        (since, first), (_, last) = self._pace[0], self._pace[-1]
        if last <= first:
            return None
        return (self.max_steps - self.step) * (self._clock() - since) / (last - first)

    def line(self) -> str:
        """The run in one line."""
        parts = [
            f"step {self.step}/{self.max_steps}",
            f"reward {self._number('reward/mean')}",
            f"loss {self._number(self._loss_name())}",
            f"length {self._number('rollout/length_mean')}",
            f"lag {self._number('replay/lag_mean')}",
            f"buffer {self._number('replay/size')}",
            f"{self._number('rollout/tokens_per_s')} tok/s",
            f"idle learner {self._percent('idle/learner')} engines {self._percent('idle/engines')}",
            f"eta {duration(self.eta_s())}",
        ]
        return "  ".join(part for part in parts if f" {DASH}" not in part and part[0] != DASH)

    def __rich__(self) -> RenderableType:
        with self._lock:
            return self._drawn()

    def _drawn(self) -> RenderableType:
        columns = Table.grid(expand=True, padding=(0, 3))
        columns.add_column(ratio=1)
        columns.add_column(ratio=1)
        columns.add_row(self._learning(), self._flow())
        parts: list[RenderableType] = [self._progress(), Text(), columns]
        if self._evaluations:
            parts += [Text(), self._evaluation()]
        if self._messages:
            parts += [Text(), *self._said()]
        title = Text.assemble((" oapl ", "bold reverse cyan"), f" {self.title} ")
        return Panel(
            Group(*parts),
            title=title,
            title_align="left",
            subtitle=Text(f" {self.subtitle} ", style="dim"),
            subtitle_align="right",
            border_style="cyan",
            box=box.ROUNDED,
            padding=(1, 2),
        )

    def _progress(self) -> RenderableType:
        done = self.step / self.max_steps
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        elapsed = duration(self._clock() - self._began)
        grid.add_row(
            Text.assemble("step ", (f"{self.step}", "bold"), f" / {self.max_steps}"),
            ProgressBar(total=self.max_steps, completed=self.step, complete_style="cyan"),
            Text(f"{done:4.0%}   {elapsed} gone   {duration(self.eta_s())} to go"),
        )
        return grid

    def _learning(self) -> Table:
        rows: list[tuple[str, RenderableType]] = [
            ("reward", self._reward()),
            ("loss", Text(self._number(self._loss_name()))),
            ("entropy", Text(self._number("policy/entropy", " nats"))),
            ("gradient", Text(self._number("policy/grad_norm"))),
            ("length", Text(self._length())),
            ("uniform groups", Text(self._percent("reward/uniform_groups"))),
            ("policy KL", Text(self._number("policy/policy_kl", " nats"))),
        ]
        return _pairs("learning", rows)

    def _flow(self) -> Table:
        version = int(self._values.get("weights/version", 0))
        left = self._interval - self.step % self._interval
        rows: list[tuple[str, RenderableType]] = [
            ("weights", Text(f"version {version}, next in {left} steps")),
            ("lag", Text(self._lag())),
            ("buffer", self._buffer()),
            ("in flight", Text(self._number("replay/in_flight", " groups"))),
            ("generated", Text(self._number("rollout/tokens_per_s", " tokens/s"))),
            ("learner idle", self._idle("idle/learner")),
            ("engines idle", self._idle("idle/engines")),
        ]
        return _pairs("flow", rows)

    def _reward(self) -> Text:
        spark = sparkline(self._rewards, SPARK_WIDTH)
        return Text.assemble(
            (f"{self._number('reward/mean')}  ", "bold"), (spark, "green"), overflow="crop"
        )

    def _length(self) -> str:
        cut = self._percent("rollout/truncated_rate")
        return f"{self._number('rollout/length_mean', ' tokens')}, {cut} cut off"

    def _lag(self) -> str:
        return f"{self._number('replay/lag_mean')} (largest {self._number('replay/lag_max')})"

    def _buffer(self) -> RenderableType:
        size = self._values.get("replay/size", 0.0)
        steps = size / self._groups_per_step
        full = min(1.0, steps / self._interval)
        return _bar(full, f"{size:.0f} = {steps:.1f} steps", "blue")

    def _idle(self, name: str) -> RenderableType:
        share = self._values.get(name)
        if share is None:
            return Text(DASH)
        style = "green" if share < BUSY else "yellow" if share < IDLE else "red"
        return _bar(share, f"{share:.0%}", style)

    def _evaluation(self) -> Table:
        names = [name for name in self._evaluations if not name.endswith("_se")]
        rows: list[tuple[str, RenderableType]] = []
        for name in names:
            seen = self._evaluations[name]
            change = f"   {seen[-1] - seen[0]:+.3f} since the first" if len(seen) > 1 else ""
            error = self._evaluations.get(name + "_se")
            shown = f"{figure(seen[-1])}" + (f" ± {error[-1]:.3f}" if error else "")
            rows.append((name.removeprefix("eval/"), Text(shown + change)))
        return _pairs("evaluation", rows)

    def _said(self) -> Iterable[Text]:
        for moment, text in self._messages:
            is_warning = any(word in text.lower() for word in WARNINGS)
            style = "yellow" if is_warning else ""
            line = Text.assemble((f"{moment}  ", "dim"), (text, style), overflow="ellipsis")
            line.no_wrap = True
            yield line

    def _loss_name(self) -> str:
        return next((name for name in self._values if name.startswith("loss/")), "loss/")

    def _number(self, name: str, unit: str = "") -> str:
        value = self._values.get(name)
        return DASH if value is None else figure(value) + unit

    def _percent(self, name: str) -> str:
        value = self._values.get(name)
        return DASH if value is None else f"{value:.0%}"


def sparkline(values: Iterable[float], width: int) -> str:
    """A curve in `width` letters at most: means of equal stretches, lowest to highest block."""
    numbers = list(values)
    if len(numbers) < 2:
        return ""
    width = min(width, len(numbers))
    edges = [round(index * len(numbers) / width) for index in range(width + 1)]
    means = [
        math.fsum(numbers[edges[i] : edges[i + 1]]) / (edges[i + 1] - edges[i])
        for i in range(width)
    ]
    low, span = min(means), max(means) - min(means)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((m - low) / span * top) if span else top // 2] for m in means)


def _pairs(title: str, rows: Sequence[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=max(len(name) for name, _ in rows))
    table.add_column(no_wrap=True)
    table.add_row(Text(title, style="bold cyan"), "")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _bar(share: float, text: str, style: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        ProgressBar(
            total=1.0, completed=share, width=BAR_WIDTH, complete_style=style, finished_style=style
        ),
        Text(text),
    )
    return grid


def figure(value: float) -> str:
    """Four significant digits, thousands set apart, tiny ones with an exponent."""
    size = abs(value)
    if size >= 1000 and math.isfinite(value):
        return f"{value:,.0f}"
    if 0 < size < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"

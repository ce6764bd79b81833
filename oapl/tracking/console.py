"""The run on a person's screen: a live view in a terminal, plain lines elsewhere.

Invariants: `view` decides what is shown, this file when; drawing never waits for the run, nor the
run for drawing.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from oapl.comparison import Comparison
from oapl.config import RunConfig
from oapl.config.stages import StagePlace
from oapl.records import StepMetrics
from oapl.tracking.drawing import DASH, figure
from oapl.tracking.history import Tail, feed
from oapl.tracking.sink import Sink
from oapl.tracking.view import Clock, View
from oapl.tracking.view_parts import is_telling

REFRESHES_PER_S = 4


def build(
    config: RunConfig,
    step: int,
    written: tuple[Tail, Tail] | None = None,
    screen: Console | None = None,
    *,
    place: StagePlace | None = None,
) -> LiveConsole | PlainConsole | None:
    """Make the console that `tracking.console` asks for; None when it is off.

    Args:
        config: The run.
        step: The learner step after which it begins.
        written: Its metrics and messages of before, which the view is to show too.
        screen: Where to draw; None means standard output.
        place: Of the stage that it is, in a run of stages.
    """
    screen = screen or Console()
    mode = config.tracking.console
    if mode == "off":
        return None
    view = view_of(config, step, place=place)
    if written is not None:
        feed(view, *written)
    return show(view, mode, screen, config.tracking.console_every_s)


def view_of(
    config: RunConfig, step: int, began: float | None = None, place: StagePlace | None = None
) -> View:
    """Make an empty view of the run.

    Args:
        config: The run.
        step: The learner step after which it began.
        began: When it began, in unix seconds; None means now.
        place: Of the stage that it is, in a run of stages.
    """
    first = 0 if place is None else place.first
    about = [config.objective.get("name", "oapl"), Path(config.model.path).name]
    return View(
        title=config.run.name,
        subtitle=" · ".join([*([str(place)] if place else []), *about]),
        first=first,
        max_steps=first + config.run.max_steps,
        interval=config.sync.interval,
        groups_per_step=config.groups_per_step,
        start=step,
        began=began,
    )


def show(view: View, mode: str, screen: Console, every_s: float) -> LiveConsole | PlainConsole:
    """Make the sink that draws `view`.

    Args:
        view: What is known of the run.
        mode: `live`, `plain`, or `auto`: live where the screen is a terminal.
        screen: Where to draw.
        every_s: Seconds between two lines of a plain console.
    """
    if mode == "auto":
        mode = "live" if screen.is_terminal and not screen.is_dumb_terminal else "plain"
    return LiveConsole(view, screen) if mode == "live" else PlainConsole(view, screen, every_s)


class LiveConsole(Sink):
    """Redraws its view all the time; prints of the process appear above it.

    Like those of a plain console, its methods take the time of what they are given, in unix
    seconds; None means now.

    Args:
        view: What it draws, and feeds with what it is given.
        screen: Where to draw.
    """

    def __init__(self, view: View, screen: Console) -> None:
        self._view = view
        self._live = Live(view, console=screen, refresh_per_second=REFRESHES_PER_S)
        self._live.start()

    def log(self, metrics: StepMetrics, at: float | None = None) -> None:
        """Feed the view; see `Sink.log`."""
        self._view.feed(metrics, at)

    def message(self, text: str, at: float | None = None) -> None:
        """Feed the view; see `Sink.message`."""
        self._view.say(text, at)

    def phase(self, name: str, at: float | None = None) -> None:
        """Feed the view; see `Sink.phase`."""
        self._view.enter(name, at)

    def made(self, groups: int, total: int) -> None:
        """Feed the view; see `Sink.made`."""
        self._view.made(groups, total)

    def refresh(self) -> None:
        """Show at once what the view holds."""
        self._live.refresh()

    def close(self) -> None:
        """Leave the last drawing where it is."""
        self._live.stop()


class PlainConsole(Sink):
    """Prints a line every `every_s` seconds; messages and evaluations at once, the last step last.

    The time of a line is that of its step: nothing is printed while nothing happens.

    Args:
        view: What it tells of, and feeds with what it is given.
        screen: Where to print.
        every_s: Between two lines.
        clock: Tells seconds that only go forward.
    """

    def __init__(self, view: View, screen: Console, every_s: float, clock: Clock = time.monotonic):
        self._view = view
        self._screen = screen
        self._every_s = every_s
        self._clock = clock
        self._printed_at = -math.inf
        self._printed = ""

    def log(self, metrics: StepMetrics, at: float | None = None) -> None:
        """Feed the view, and print its line when one is due; see `Sink.log`."""
        self._view.feed(metrics, at)
        figures = {n: v for n, v in metrics.values.items() if n.startswith("eval/")}
        if figures:
            self._print(f"step {metrics.step}  " + "  ".join(_evaluated(figures)))
        elif self._clock() - self._printed_at >= self._every_s:
            self._printed_at = self._clock()
            self.refresh()

    def message(self, text: str, at: float | None = None) -> None:
        """Print the message; see `Sink.message`."""
        self._print(text, at)

    def phase(self, name: str, at: float | None = None) -> None:
        """Feed the view; see `Sink.phase`."""
        self._view.enter(name, at)

    def close(self) -> None:
        """Print the last line."""
        self.refresh()

    def refresh(self) -> None:
        """Print the line of what the view holds, unless it is there already."""
        line = self._view.line()
        if line != self._printed:
            self._printed = line
            self._print(line)
            self._view.told()

    def _print(self, text: str, at: float | None = None) -> None:
        moment = time.strftime("%H:%M:%S", time.localtime(at))
        self._screen.print(f"{moment}  {text}", highlight=False, markup=False, soft_wrap=True)


def _evaluated(figures: dict[str, float]) -> Iterable[str]:
    for name, value in figures.items():
        if is_telling(name):
            error = figures.get(name + "_se")
            spread = f" ± {error:.3f}" if error is not None else ""
            yield f"{name.removeprefix('eval/')} {figure(value)}{spread}"


def comparison_table(rows: Sequence[Comparison], title: str = "before and after") -> Table:
    """Draw an evaluation before and after training as a table.

    Args:
        rows: One per measure; a figure that is not there is a dash.
        title: Of the table.
    """
    table = Table(title=title, box=box.SIMPLE_HEAVY)
    table.add_column("measure")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for row in rows:
        change = row.change
        style = "" if not change else "green" if change > 0 else "red"
        table.add_row(
            row.measure,
            _with_error(row.before, row.before_se),
            _with_error(row.after, row.after_se),
            Text(DASH if change is None else f"{change:+.3f}", style=style),
        )
    return table


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def save_svg(what: RenderableType, path: Path, width: int = 110) -> str:
    """Draw anything of rich's as an SVG file.

    Args:
        what: A table, a view, a panel.
        path: The file, written anew.
        width: Of the drawing, in characters.

    Returns:
        The same drawing as text.
    """
    screen = Console(record=True, width=width, height=60, file=io.StringIO(), force_terminal=True)
    screen.print(what)
    text = screen.export_text(clear=False)
    path.write_text(screen.export_svg(title="oapl"))
    return text

"""What a person sees: the live view at a fixed width, plain lines, tables."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from oapl.comparison import compare
from oapl.config import RunConfig
from oapl.records import StepMetrics
from oapl.tracking import console
from oapl.tracking.console import LiveConsole, PlainConsole, comparison_table, save_svg
from oapl.tracking.drawing import figure, sparkline
from oapl.tracking.history import Tail
from oapl.tracking.jsonl import JsonlSink
from oapl.tracking.view import View
from oapl.tracking.view_parts import is_warning

STEP = {
    "reward/mean": 0.5,
    "loss/oapl": 0.0271,
    "rollout/length_mean": 41.3,
    "rollout/truncated_rate": 0.02,
    "replay/size": 44.0,
    "replay/in_flight": 23.0,
    "replay/lag_mean": 36.0,
    "replay/lag_max": 36.0,
    "rollout/tokens_per_s": 9841.2,
    "idle/learner": 0.07,
    "idle/engines": 0.5,
    "weights/version": 50.0,
    "time/step_s": 2.0,
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def view(clock: Clock | None = None, start: int = 0) -> View:
    return View(
        title="my-run",
        subtitle="oapl · tiny",
        max_steps=200,
        interval=50,
        groups_per_step=8,
        start=start,
        clock=clock or Clock(),
    )


def run(steps: int) -> View:
    clock = Clock()
    seen = view(clock)
    for step in range(1, steps + 1):
        clock.now += 2.0
        seen.feed(StepMetrics(step=step, values={**STEP, "reward/mean": step / steps}))
    return seen


def test_the_live_view_tells_what_was_moved(tmp_path: Path):
    seen = run(3)
    assert "moved" not in save_svg(seen, tmp_path / "view.svg", width=104)
    seen.feed(StepMetrics(step=4, values={**STEP, "replay/moved_groups": 3.0}))
    assert "23 groups, 3 moved" in save_svg(seen, tmp_path / "view.svg", width=104)


def test_the_live_view_shows_the_run(tmp_path: Path):
    seen = run(87)
    seen.feed(StepMetrics(step=0, values={"eval/sums/mean@8": 0.1, "eval/sums/mean@8_se": 0.01}))
    seen.feed(StepMetrics(step=87, values={"eval/sums/mean@8": 0.6, "eval/sums/mean@8_se": 0.02}))
    seen.say("worker 1.0 died (killed by signal 9); restarting")
    text = save_svg(seen, tmp_path / "view.svg", width=104)
    for expected in (
        "my-run",
        "step 87 / 200",
        "44%",
        "0:02:54 gone",
        "0:03:46 to go",  # 113 steps of 2 s
        "▁",
        "41.3 tokens, 2% cut off",
        "version 50, next in 13",
        "36 (largest 36)",
        "44 = 5.5 steps",
        "9,841 tokens/s",
        "7%",
        "50%",
        "sums/mean@8  0.6 ± 0.020  +0.500",
        "worker 1.0 died (killed by signal 9); restarting",
        "oapl · tiny",
    ):
        assert expected in text, expected
    assert all(len(line) <= 104 for line in text.splitlines())
    assert (tmp_path / "view.svg").read_text().startswith("<svg")


def test_what_is_not_known_is_a_dash():
    screen = Console(width=100, file=io.StringIO(), record=True)
    screen.print(view())
    text = screen.export_text()
    assert "–" in text
    assert "nan" not in text
    assert view().line() == "step 0/200"


def test_a_narrow_terminal_does_not_break_the_view():
    screen = Console(width=50, file=io.StringIO(), record=True)
    screen.print(run(3))
    assert all(len(line) <= 50 for line in screen.export_text().splitlines())


def drawn(seen: View, width: int, height: int) -> list[str]:
    screen = Console(width=width, height=height, file=io.StringIO(), force_terminal=True)
    with screen.capture() as capture:
        screen.print(seen)
    return Text.from_ansi(capture.get()).plain.splitlines()


def test_groups_that_are_only_stored_are_counted_and_nothing_is_said_of_training():
    seen = view()
    seen.made(30, 400)
    seen.enter("generate")
    text = "\n".join(drawn(seen, 100, 30))
    assert "groups 30 / 400" in text
    assert "generate" in text
    assert "step" not in text
    assert "–" not in text


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 40)], ids=str)
def test_the_view_fits_the_terminal_and_keeps_what_matters_most(size: tuple[int, int]):
    seen = run(87)
    for name in ("truncated_rate", "length_mean", *(f"pass@{k}" for k in range(1, 30)), "mean@8"):
        seen.feed(StepMetrics(step=87, values={f"eval/sums/{name}": 0.5}))
    for index in range(30):
        seen.say(f"message {index}")
    lines = drawn(seen, *size)
    assert len(lines) < size[1]
    assert {len(line) for line in lines} == {size[0]}
    text = "\n".join(lines)
    for expected in ("step 87 / 200", "1  ▁", "36 (largest 36)", "sums/mean@8", "message 29"):
        assert expected in text, expected
    assert "…" not in text


def test_an_old_warning_is_not_pushed_out_by_what_comes_after():
    seen = run(3)
    seen.say("worker 1.0 died (killed by signal 9); restarting")
    for index in range(40):
        seen.say(f"message {index}")
    text = "\n".join(drawn(seen, 80, 24))
    assert "worker 1.0 died" in text
    assert "message 39" in text


def test_the_phase_is_marked_and_the_clock_stops_at_the_end():
    clock = Clock()
    seen = view(clock)
    seen.enter("train")
    clock.now += 65.0
    assert "for 0:01:05" in "\n".join(drawn(seen, 80, 24))
    seen.enter("done")
    clock.now += 1000.0
    text = "\n".join(drawn(seen, 80, 24))
    assert "done" in text
    assert "0:01:05 in all" in text
    assert seen.line().endswith("done")


def test_faults_are_summed_over_the_run():
    seen = run(2)
    for step in (3, 4):
        seen.feed(StepMetrics(step=step, values={"faults/skipped_steps": 1.0}))
    assert "2 skipped steps" in "\n".join(drawn(seen, 80, 24))
    seen.feed(StepMetrics(step=5, values={"faults/worker_restarts": 3.0}))
    assert "3 worker restarts, 2 sk…" in "\n".join(drawn(seen, 80, 24))


def test_the_time_to_go_follows_the_last_steps_only():
    clock = Clock()
    seen = view(clock)
    assert seen.eta_s() is None
    for step in range(1, 101):
        clock.now += 10.0 if step <= 40 else 1.0
        seen.feed(StepMetrics(step=step, values=STEP))
    assert seen.eta_s() == pytest.approx(100.0)


def test_a_resumed_run_counts_its_pace_from_where_it_went_on():
    clock = Clock()
    seen = view(clock, start=100)
    for step in range(1, 101):
        seen.feed(StepMetrics(step=step, values=STEP), at=clock.now - 1000 + step)
    clock.now += 3600.0
    for step in range(101, 106):
        seen.feed(StepMetrics(step=step, values=STEP))
        assert seen.eta_s() is None, "steps before it, and its start, say nothing"
        assert "eta" not in seen.line()
        clock.now += 3.0
    seen.feed(StepMetrics(step=106, values=STEP))
    assert seen.eta_s() == pytest.approx(3.0 * 94)


def test_no_time_to_go_is_told_from_a_few_steps_that_happened_to_be_slow():
    """The first steps wait for the engines: at the pace of the second one it would be hours."""
    clock = Clock()
    seen = view(clock)
    for step, passed in enumerate((30.0, 100.0, 2.0, 2.0, 2.0), 1):
        clock.now += passed
        seen.feed(StepMetrics(step=step, values=STEP))
        assert "eta" not in seen.line()


def test_the_sparkline_spans_lowest_to_highest():
    assert sparkline([0, 1], 10) == "▁█"
    assert sparkline([0, 0, 1, 1, 2, 2, 3.5, 3.5], 4) == "▁▃▅█"
    assert sparkline([5, 5, 5], 3) == "▄▄▄"
    assert sparkline([1], 3) == ""
    assert len(sparkline(range(1000), 24)) == 24


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (36.0, "36"), (41.3333, "41.33"), (9841.2, "9,841"), (-2e-5, "-2.0e-05")],
)
def test_figures_have_four_digits(value: float, text: str):
    assert figure(value) == text


def plain(every_s: float) -> tuple[PlainConsole, io.StringIO, Clock]:
    clock, out = Clock(), io.StringIO()
    return PlainConsole(view(clock), Console(file=out, width=300), every_s, clock), out, clock


def test_plain_lines_come_at_most_every_so_often_and_once_at_the_end():
    sink, out, clock = plain(every_s=5.0)
    for step in range(1, 9):
        sink.log(StepMetrics(step=step, values=STEP))
        clock.now += 2.0
    sink.close()
    printed = [line.split("step ")[1].split("/")[0] for line in out.getvalue().splitlines()]
    assert printed == ["1", "4", "7", "8"]
    assert "reward 0.5  loss 0.0271  length 41.3  lag 36  buffer 44" in out.getvalue()


def test_a_plain_line_says_of_how_many_steps_its_figures_are_means():
    sink, out, clock = plain(every_s=5.0)
    for step in range(1, 5):
        sink.log(StepMetrics(step=step, values={**STEP, "reward/mean": float(step)}))
        clock.now += 2.0
    first, second = out.getvalue().splitlines()
    assert "step 1/200  reward 1  loss" in first
    assert "step 4/200  mean of 3 steps: reward 3  loss" in second
    assert "buffer 44  mean of 4 steps: 9,841 tok/s  idle learner 7% engines 50%" in second


def test_alarms_are_on_the_view_from_when_they_went_on():
    seen = run(3)
    seen.feed(StepMetrics(step=4, values={"alarms/entropy": 0.0, "alarms/repetition": 0.0}))
    assert "alarms" not in "\n".join(drawn(seen, 100, 40))
    seen.feed(StepMetrics(step=5, values={"alarms/entropy": 0.0, "alarms/repetition": 1.0}))
    text = "\n".join(drawn(seen, 100, 40))
    assert "repetition" in text
    assert "alarms" in text
    seen.say("alarm repetition at step 5: 90% of the 4-grams")
    assert is_warning("alarm repetition at step 5")


def test_messages_and_evaluations_are_printed_at_once():
    sink, out, _ = plain(every_s=1e9)
    sink.message("worker [0] died")
    sink.log(StepMetrics(step=0, values={"eval/s/mean@8": 0.25, "eval/s/mean@8_se": 0.01}))
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("worker [0] died")
    assert lines[1].endswith("step 0  s/mean@8 0.25 ± 0.010")


def test_the_console_follows_the_setting_and_the_terminal():
    def built(setting: str, is_terminal: bool) -> object:
        config = RunConfig(tracking={"console": setting})  # type: ignore[arg-type]
        screen = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={})
        sink = console.build(config, 0, screen=screen)
        if sink is not None:
            sink.close()
        return type(sink)

    assert built("off", True) is type(None)
    assert built("auto", True) is LiveConsole
    assert built("auto", False) is PlainConsole
    assert built("plain", True) is PlainConsole
    assert built("live", False) is LiveConsole


def test_the_live_console_draws_what_it_is_fed():
    out = io.StringIO()
    sink = LiveConsole(view(), Console(file=out, force_terminal=True, width=104, height=40))
    sink.log(StepMetrics(step=9, values=STEP))
    sink.message("hello")
    sink.close()
    assert "hello" in out.getvalue()
    assert "/ 200" in out.getvalue()


def test_the_table_before_and_after_shows_errors_and_change():
    rows = compare(
        {"eval/s/mean@8": 0.25, "eval/s/mean@8_se": 0.01},
        {"eval/s/mean@8": 0.75, "eval/s/mean@8_se": 0.02, "eval/s/greedy": 1.0},
    )
    screen = Console(width=100, file=io.StringIO(), record=True)
    screen.print(comparison_table(rows))
    text = " ".join(screen.export_text().split())
    assert "s/mean@8 0.250 ± 0.010 0.750 ± 0.020 +0.500" in text
    assert "s/greedy – 1.000 –" in text


def test_a_resumed_run_shows_what_came_before(tmp_path: Path):
    sink = JsonlSink(tmp_path, 0)
    for step in (1, 2, 3):
        sink.log(StepMetrics(step=step, values={"reward/mean": step / 4}))
    sink.message("worker 1.0 died")
    out = io.StringIO()
    config = RunConfig(tracking={"console": "live"})  # type: ignore[arg-type]
    screen = Console(file=out, force_terminal=True, width=104, height=40)
    written = Tail(tmp_path / "metrics.jsonl"), Tail(tmp_path / "messages.log")
    resumed = console.build(config, 2, written, screen)
    assert resumed is not None
    resumed.close()
    assert "▁▅█" in out.getvalue()
    assert "worker 1.0 died" in out.getvalue()

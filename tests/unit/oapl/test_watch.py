"""A run watched from another process: its folder alone, while it grows, resumes and ends."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from oapl.config import RunConfig
from oapl.config.stages import StagePlace, stages_of
from oapl.config.toml import to_toml
from oapl.errors import InputError
from oapl.records import StepMetrics
from oapl.tracking import console, status
from oapl.tracking import watch as watching
from oapl.tracking.history import Tail
from oapl.tracking.jsonl import JsonlSink
from oapl.tracking.tracker import build_tracker
from oapl.tracking.view import View
from oapl.tracking.watch import watch

DEADLINE_S = 120.0


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(watching, "POLL_S", 0.01)
    made = RunConfig(
        run={"name": "r", "dir": str(tmp_path), "max_steps": 4},  # type: ignore[arg-type]
        tracking={"console": "off", "wandb": "off", "console_every_s": 1e-6},  # type: ignore[arg-type]
    )
    made.folder.mkdir()
    (made.folder / "config.toml").write_text(to_toml(made))
    return made


def step(number: int, reward: float = 0.5) -> StepMetrics:
    return StepMetrics(step=number, values={"reward/mean": reward, "time/step_s": 1.0})


class Watcher:
    """`watch` in a thread, and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.code: int | None = None
        screen = Console(file=self.out, width=200)
        self._thread = threading.Thread(target=self._run, args=(folder, screen), daemon=True)
        self._thread.start()

    def _run(self, folder: Path, screen: Console) -> None:
        self.code = watch(folder, screen)

    def sees(self, text: str) -> None:
        _until(lambda: text in self.out.getvalue(), lambda: f"{text!r} in {self.out.getvalue()}")

    def ends(self) -> None:
        self._thread.join(DEADLINE_S)
        assert self.code == 0


def _until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.005)


def test_a_growing_run_is_followed_to_its_end(config: RunConfig):
    tracker = build_tracker(config, config.folder, 0)
    watcher = Watcher(config.folder)
    tracker.phase("train")
    tracker.log(step(1))
    watcher.sees("step 1/4")
    tracker.message("worker 0.0 died")
    watcher.sees("worker 0.0 died")
    tracker.log(step(2, reward=0.75))
    watcher.sees("step 2/4  reward 0.75")
    tracker.log(StepMetrics(step=2, values={"eval/s/mean@8": 0.25}))
    tracker.phase(status.DONE)
    watcher.ends()
    assert "s/mean@8 0.25" in watcher.out.getvalue()
    assert watcher.out.getvalue().rstrip().endswith("done")


def test_a_run_that_resumes_is_shown_anew_from_what_it_kept(config: RunConfig):
    tracker = build_tracker(config, config.folder, 0)
    watcher = Watcher(config.folder)
    for number in (1, 2, 3):
        tracker.log(step(number))
    watcher.sees("step 3/4")
    resumed = build_tracker(config, config.folder, 1)  # steps 2 and 3 are set aside
    resumed.log(step(2, reward=0.125))
    watcher.sees("step 2/4  mean of 2 steps: reward 0.3125")
    resumed.phase(status.STOPPED)
    watcher.ends()


def test_lines_set_aside_within_a_life_are_noticed_by_the_file_itself(config: RunConfig):
    build_tracker(config, config.folder, 0)
    sink = JsonlSink(config.folder, None)
    for number in (1, 2, 3):
        sink.log(step(number))
    watcher = Watcher(config.folder)
    watcher.sees("step 3/4")
    JsonlSink(config.folder, 1).log(step(2, reward=0.125))
    watcher.sees("step 2/4  mean of 2 steps: reward 0.3125")


def test_a_watcher_of_a_run_that_goes_on_counts_its_time_anew(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    starts: list[int] = []
    view_of = console.view_of

    def counted(config: RunConfig, start: int, began: float | None, place: object) -> View:
        starts.append(start)
        return view_of(config, start, began)

    monkeypatch.setattr(console, "view_of", counted)
    first = build_tracker(config, config.folder, 0)
    for number in (1, 2):
        first.log(step(number))
    watcher = Watcher(config.folder)
    watcher.sees("step 2/4")
    resumed = build_tracker(config, config.folder, 2)  # nothing to set aside
    resumed.phase("train")
    _until(lambda: 2 in starts, lambda: f"a view from step 2 on; there were {starts}")
    resumed.phase(status.DONE)
    watcher.ends()


def test_a_finished_run_is_rendered_once(config: RunConfig):
    tracker = build_tracker(config, config.folder, 0)
    tracker.log(step(4, reward=1.0))
    tracker.phase(status.DONE)
    tracker.close()
    watcher = Watcher(config.folder)
    watcher.ends()
    (line,) = watcher.out.getvalue().splitlines()
    assert line.endswith("step 4/4  reward 1  done")


def test_a_run_that_closes_without_an_end_has_failed(config: RunConfig):
    tracker = build_tracker(config, config.folder, 0)
    tracker.close()
    found = status.read(config.folder)
    assert found is not None
    assert found.phase == status.FAILED


def test_a_run_that_closes_to_start_again_has_not_ended(config: RunConfig):
    tracker = build_tracker(config, config.folder, 0)
    tracker.phase(status.RESTART)
    tracker.close()
    found = status.read(config.folder)
    assert found is not None
    assert not found.is_over


def test_a_killed_run_is_noticed_by_its_process(config: RunConfig):
    build_tracker(config, config.folder, 0).log(step(1))
    path = config.folder / status.FILE
    with os.popen("echo $$") as shell:
        gone = int(shell.read())  # the shell has ended with its output
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": gone}))
    watcher = Watcher(config.folder)
    watcher.ends()
    assert f"process {gone} is gone without an end" in watcher.out.getvalue()


def test_a_process_of_another_host_is_not_taken_for_dead(config: RunConfig):
    build_tracker(config, config.folder, 0)
    path = config.folder / status.FILE
    elsewhere = {"pid": 2**22 + 1, "host": f"not-{socket.gethostname()}"}
    path.write_text(json.dumps(json.loads(path.read_text()) | elsewhere))
    found = status.read(config.folder)
    assert found is not None
    assert not found.is_lost


def test_a_line_being_written_is_taken_in_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text("a\nb")
    assert tail.lines() == ["a"]
    with path.open("a") as file:
        file.write("c\nd\n")
    assert tail.lines() == ["bc", "d"]
    assert not tail.is_replaced()
    path.write_text("a\n")
    assert tail.is_replaced()


def test_a_folder_that_is_no_run_is_refused_with_what_is_near(config: RunConfig, tmp_path: Path):
    with pytest.raises(InputError, match=r"no run folder.*run folders in it: .*/r;"):
        watch(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        watch(tmp_path / "nothing")


def test_ctrl_c_ends_the_watch_quietly(config: RunConfig, monkeypatch: pytest.MonkeyPatch):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    build_tracker(config, config.folder, 0)
    monkeypatch.setattr(watching.time, "sleep", interrupted)
    assert watch(config.folder, Console(file=io.StringIO())) == 0


def test_a_run_of_stages_is_followed_from_one_to_the_next(config: RunConfig):
    stages = ({"name": "a"}, {"name": "b", "run": {"max_steps": 3}})
    whole = dataclasses.replace(config, stages=stages)
    (config.folder / "config.toml").write_text(to_toml(whole))
    first, second = stages_of(whole)
    places = [StagePlace(number=n + 1, total=2, name="ab"[n], first=4 * n) for n in (0, 1)]
    tracker = build_tracker(first.config, config.folder, 0, places[0])
    watcher = Watcher(config.folder)
    tracker.log(step(4))
    watcher.sees("step 4/4")
    tracker.phase(status.HAND_OVER)
    tracker.close()
    found = status.read(config.folder)
    assert found is not None
    assert (found.phase, found.stage, found.is_over) == (status.HAND_OVER, "a", False)
    tracker = build_tracker(second.config, config.folder, 4, places[1])
    tracker.log(step(5))
    watcher.sees("step 5/7")
    tracker.phase(status.DONE)
    watcher.ends()


def test_a_view_of_a_stage_says_which_it_is_and_counts_from_its_beginning(config: RunConfig):
    place = StagePlace(number=2, total=3, name="b", first=40)
    view = console.view_of(config, 40, place=place)
    view.feed(StepMetrics(step=41, values={"weights/version": 40.0, "time/step_s": 1.0}))
    out = io.StringIO()
    Console(file=out, width=120).print(view)
    text = out.getvalue()
    assert "stage 2/3 b · oapl" in text
    assert "step 41 / 44" in text
    assert " 25%" in text
    assert "version 40, next in 49" in text

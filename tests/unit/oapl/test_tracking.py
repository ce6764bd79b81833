"""Metrics on disk, stored rollouts, and W&B with its failures."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from rich.console import Console

from oapl import groups_file
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.evaluation import Protocol, summarise
from oapl.records import (
    Credit,
    CreditedGroup,
    EvalAnswers,
    Group,
    Judgement,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    StepMetrics,
    TokenScores,
    Verdict,
)
from oapl.replay.counts import ALWAYS, ReplayCounts, observed
from oapl.tracking import rollouts, status, wandb_sink
from oapl.tracking.history import first_evaluation
from oapl.tracking.jsonl import JsonlSink
from oapl.tracking.lines import STAMP_LENGTH
from oapl.tracking.names import METRICS, STEP, describe
from oapl.tracking.rollouts import RolloutStore, Which, show
from oapl.tracking.sink import Sink
from oapl.tracking.status import StatusSink
from oapl.tracking.tracker import Tracker, build_tracker
from oapl.tracking.wandb_sink import wandb_mode
from tests.support import wandb_files
from tests.support.storing import HEADER


def config(tmp_path: Path, **tracked: Any) -> RunConfig:
    return RunConfig(
        run={"name": "r", "dir": str(tmp_path)},  # type: ignore[arg-type]
        tracking={"console": "off", "wandb": "off", **tracked},  # type: ignore[arg-type]
    )


def line(step: int, **values: float) -> StepMetrics:
    return StepMetrics(step=step, values={name.replace("__", "/"): v for name, v in values.items()})


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def steps(path: Path) -> list[int]:
    return [row["step"] for row in rows(path)]


# metrics.jsonl


def test_a_line_holds_its_step_and_numbers_that_json_knows(tmp_path: Path):
    sink = JsonlSink(tmp_path, 0)
    sink.log(line(1, loss__oapl=0.5, policy__grad_norm=math.inf, reward__mean=math.nan))
    (row,) = rows(tmp_path / "metrics.jsonl")
    assert row.pop("time/unix_s") > 1e9
    assert row == {"step": 1, "loss/oapl": 0.5, "policy/grad_norm": None, "reward/mean": None}


def test_on_resume_later_lines_are_set_aside_and_written_once(tmp_path: Path):
    sink = JsonlSink(tmp_path, 0)
    for step in range(1, 6):
        sink.log(line(step, loss__oapl=step))
    resumed = JsonlSink(tmp_path, 3)
    for step in (4, 5):
        resumed.log(line(step, loss__oapl=-step))
    path = tmp_path / "metrics.jsonl"
    assert [(r["step"], r["loss/oapl"]) for r in rows(path)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, -4),
        (5, -5),
    ]
    assert steps(tmp_path / "metrics.after-step-3.jsonl") == [4, 5]
    JsonlSink(tmp_path, 3)  # killed again before the next checkpoint
    assert steps(path) == [1, 2, 3]
    assert steps(tmp_path / "metrics.after-step-3.jsonl") == [4, 5, 4, 5]


def test_a_line_torn_by_a_kill_is_set_aside(tmp_path: Path):
    JsonlSink(tmp_path, 0).log(line(1, loss__oapl=1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss')
    JsonlSink(tmp_path, 1).log(line(2, loss__oapl=2))
    assert steps(tmp_path / "metrics.jsonl") == [1, 2]
    assert (tmp_path / "metrics.after-step-1.jsonl").read_text() == '{"step": 2, "loss\n'


def test_an_evaluation_made_again_after_a_resume_is_not_there_twice(tmp_path: Path):
    sink = JsonlSink(tmp_path, 0)
    sink.log(line(2, loss__oapl=1))
    sink.log(StepMetrics(step=2, values={"eval/s/mean@4": 0.1}))
    resumed = JsonlSink(tmp_path, 2)
    assert steps(tmp_path / "metrics.jsonl") == [2, 2]  # kept, in case it is not made again
    resumed.log(StepMetrics(step=2, values={"eval/s/mean@4": 0.2}))
    resumed.log(StepMetrics(step=2, values={"eval/other/mean@4": 0.3}))
    found = [{k: v for k, v in row.items() if "unix" not in k} for row in rows(sink._path)]
    assert found == [
        {"step": 2, "loss/oapl": 1},
        {"step": 2, "eval/s/mean@4": 0.2},
        {"step": 2, "eval/other/mean@4": 0.3},
    ]


def test_an_evaluation_alone_touches_nothing_of_the_run(tmp_path: Path):
    sink = JsonlSink(tmp_path, 0)
    sink.log(line(7, loss__oapl=1))
    tracker = build_tracker(config(tmp_path), tmp_path, None)
    tracker.log(StepMetrics(step=0, values={"eval/s/greedy": 1.0}))
    tracker.close()
    assert steps(tmp_path / "metrics.jsonl") == [7, 0]


def test_messages_are_kept_with_their_time(tmp_path: Path):
    tracker = build_tracker(config(tmp_path), tmp_path, 0)
    tracker.message("worker 0.0 died")
    assert (tmp_path / "messages.log").read_text().endswith(" worker 0.0 died\n")


# Names


def test_every_name_that_is_always_reported_is_in_the_table():
    assert [name for name in ALWAYS if describe(name) is None] == []


def test_what_replay_and_evaluation_report_is_in_the_table():
    counts = ReplayCounts()
    group = credited("p", 0).scored
    counts.accept(observed(group, Credit(values=group.rewards, metrics={"oapl/v_star_*": 1.0})))
    counts.refuse("stale", 1)
    counts.clear(1, [1], 1)
    counts.waste(1, 1)
    counts.lease([0])
    answers = EvalAnswers(
        prompt=group.group.prompt,
        rollouts=group.group.rollouts,
        judgements=(Judgement(reward=1.0, verdicts={}),) * 2,
    )
    evaluation = summarise("set", [answers] * 2, Protocol(num_samples=2, ks=(1, 2)))
    unknown = [n for n in {**counts.take(), **evaluation} if describe(n) is None]
    assert unknown == []


def test_a_name_finds_its_own_entry():
    assert describe("eval/sums/pass@16") is METRICS["eval/{SET}/pass@k"]
    assert describe("oapl/log_ratio_max") is METRICS["oapl/log_ratio_*"]
    assert describe("eval/sums/mean@8_se") is METRICS["eval/{SET}/{MEASURE}_se"]
    assert describe("oapl/log_ratio_median") is None
    assert describe("nonsense") is None


# Stored rollouts


def credited(name: str, version: int, rewards: tuple[float, ...] = (0.0, 1.0)) -> CreditedGroup:
    prompt = Prompt(
        id=name,
        text=f"<user>{name}?",
        token_ids=np.array([1, 2], np.int32),
        verifiers={"math": 1.0},
        reference={"answer": "4"},
        source="s",
        question=f"{name}?",
    )
    answers = tuple(
        Rollout(
            token_ids=np.arange(3, dtype=np.int32),
            inference_logprobs=np.full(3, -0.5, np.float32),
            finish_reason="stop",
            text=f"{name} answers {reward}",
            first_version=version,
            last_version=version,
        )
        for reward in rewards
    )
    return CreditedGroup(
        scored=ScoredGroup(
            group=Group(prompt=prompt, rollouts=answers, version=version, sampling=Sampling()),
            rewards=np.array(rewards, np.float32),
            verdicts=tuple(
                {"math": Verdict(kind="accepted" if r else "wrong_answer", reward=r)}
                for r in rewards
            ),
        ),
        credit=Credit(values=np.array(rewards, np.float32)),
    )


def store(
    tmp_path: Path, per_step: int = 1, stores: str = "sample", header: groups_file.Header = HEADER
) -> RolloutStore:
    made = config(tmp_path, rollout_groups_per_step=per_step, store_groups=stores)
    return RolloutStore(made, tmp_path, header)


def stored(tmp_path: Path) -> list[tuple[str, int]]:
    """Id and step of each stored group."""
    found = groups_file.read(tmp_path / "rollouts")
    return [(group.prompt.id, group.step) for group in found]


def test_stored_rollouts_come_back_with_text_rewards_and_verdicts(tmp_path: Path):
    kept = store(tmp_path)
    kept.add([credited("q", version=2)], step=3)
    kept.flush()
    (row, other) = rollouts.read(tmp_path)
    assert json.loads(row.pop("verdicts")) == {
        "math": {"kind": "wrong_answer", "reward": 0.0, "detail": "", "seconds": 0.0, "parts": {}}
    }
    assert row == {
        "step": 3,
        "version": 2,
        "id": "q",
        "question": "q?",
        "prompt": "<user>q?",
        "response": "q answers 0.0",
        "reward": 0.0,
        "credit": 0.0,
        "num_tokens": 3,
        "finish_reason": "stop",
    }
    assert other["reward"] == 1.0


def scores_of(groups: list[CreditedGroup], places: Sequence[int]) -> list[TokenScores]:
    """Of every rollout minus its group's place."""
    return [
        TokenScores(
            group_index=index,
            place=place,
            logprobs=np.full(len(rollout.token_ids), -float(index), np.float32),
        )
        for index in places
        for place, rollout in enumerate(groups[index].scored.group.rollouts)
    ]


@pytest.mark.parametrize(("stores", "count"), [("sample", 2), ("all", 3), ("off", 0)])
def test_what_the_learner_thought_is_stored_with_the_groups_that_are(
    tmp_path: Path, stores: str, count: int
):
    kept = store(tmp_path, per_step=2, stores=stores)
    groups = [credited(name, 0) for name in "abc"]
    wanted = kept.wanted(groups, 1)
    assert len(wanted) == count
    kept.add(groups, 1, scores_of(groups, wanted))
    kept.add(groups, 2)  # where the policy made no pass
    kept.flush()
    if stores == "off":
        assert not groups_file.is_set(tmp_path / "rollouts")
        return
    found = list(groups_file.read(tmp_path / "rollouts"))
    told = [(g.prompt.id, [s.tolist() for s in g.learner_logprobs]) for g in found if g.step == 1]
    assert told == [("abc"[index], [[-float(index)] * 3] * 2) for index in wanted]
    assert [g.learner_logprobs for g in found if g.step == 2] == [None] * (len(found) - count)
    assert not (stores == "all" and kept.wanted(groups, 3)), "what is stored is not stored again"


def test_of_what_nobody_sampled_the_learners_logprobs_are_not_asked_for(tmp_path: Path):
    group = credited("a", 0)
    inner = group.scored.group
    bare = tuple(dataclasses.replace(r, inference_logprobs=None) for r in inner.rollouts)
    scored = dataclasses.replace(group.scored, group=dataclasses.replace(inner, rollouts=bare))
    assert store(tmp_path).wanted([dataclasses.replace(group, scored=scored)], 1) == ()


def test_the_sample_does_not_prefer_what_came_first(tmp_path: Path):
    kept = store(tmp_path)
    batch = [credited(str(i), 0) for i in range(4)]
    for step in range(1, 40):
        kept.add(batch, step)
    kept.flush()
    assert {row["id"] for row in rollouts.read(tmp_path)} == {"0", "1", "2", "3"}
    assert len(list(rollouts.read(tmp_path))) == 39 * 2


def test_no_group_is_stored_when_none_is_asked_for(tmp_path: Path):
    kept = store(tmp_path, stores="off")
    kept.add([credited("q", 0)], 1)
    kept.flush()
    with pytest.raises(InputError, match="no stored rollouts"):
        next(rollouts.read(tmp_path))


def test_on_resume_stored_rollouts_after_the_step_are_set_aside(tmp_path: Path):
    kept = store(tmp_path)
    for step in range(1, 7):
        kept.add([credited(f"q{step}", 0)], step)
        if step % 3 == 2:
            kept.flush()
    kept.flush()  # shards of steps 1-2, 3-5, 6
    assert rollouts.set_aside(tmp_path, 4) == 4
    assert {row["step"] for row in rollouts.read(tmp_path)} == {1, 2, 3, 4}
    again = store(tmp_path)
    again.add([credited("q5", 0)], 5)
    again.flush()
    assert [row["step"] for row in rollouts.read(tmp_path)][::2] == [1, 2, 3, 4, 5]
    rollouts.set_aside(tmp_path, 4)
    aside = [tmp_path / "rollouts" / name for name in ("_after-step-4", "_after-step-4.2")]
    assert [[group.step for group in groups_file.read(each)] for each in aside] == [[5, 6], [5]]
    assert len(stored(tmp_path)) == 4
    frame = pandas.read_parquet(tmp_path / "rollouts")
    assert sorted(set(frame.step)) == [1, 2, 3, 4], "what was set aside is not read with it"


def test_of_all_groups_each_is_stored_once_whatever_is_trained_and_resumed(tmp_path: Path):
    kept = store(tmp_path, stores="all")
    kept.add([credited("a", 0), credited("b", 0)], 1)
    kept.add([credited("a", 0), credited("b", 0)], 2)  # a second pass
    kept.flush()
    kept.add([credited("c", 0)], 3)
    kept.flush()
    rollouts.set_aside(tmp_path, 2)  # killed after step 3, going on from step 2
    again = store(tmp_path, stores="all")
    again.add([credited("b", 0), credited("c", 0)], 3)
    again.flush()
    assert stored(tmp_path) == [("a", 1), ("b", 1), ("c", 3)]


def test_of_all_stored_groups_a_sample_is_told(tmp_path: Path):
    told: list = []
    made = config(tmp_path, store_groups="all")
    kept = RolloutStore(made, tmp_path, HEADER, told.extend)
    kept.add([credited(name, 0) for name in "abc"], 1)
    kept.flush()
    assert len(stored(tmp_path)) == 3
    assert len({row["id"] for row in told}) == 1


def test_a_run_that_goes_on_with_another_template_begins_another_set(tmp_path: Path):
    for template, step in (("p", 1), ("other", 2), ("third", 3)):
        kept = store(tmp_path, header=dataclasses.replace(HEADER, template=template))
        kept.add([credited(f"q{step}", 0)], step)
        kept.flush()
    assert stored(tmp_path) == [("q3", 3)]
    for name, template in (("_earlier", "p"), ("_earlier.2", "other")):
        assert groups_file.header(tmp_path / "rollouts" / name).template == template


def test_groups_are_saved_as_a_set_of_their_own(tmp_path: Path):
    for name in "qr":
        store(tmp_path, stores="off").save_all([credited(name, 0)], tmp_path / "all")
    (group,) = groups_file.read(tmp_path / "all")
    assert (group.prompt.id, group.rollouts[0].token_ids.tolist()) == ("r", [0, 1, 2])
    assert group.rollouts[0].inference_logprobs.tolist() == [-0.5] * 3


def test_show_prints_the_best_and_the_worst(tmp_path: Path):
    kept = store(tmp_path, per_step=3)
    kept.add([credited(name, 0, (0.0, 0.5, 1.0)) for name in "abc"], 1)
    kept.flush()
    screen = Console(width=100, file=io.StringIO(), record=True)
    show(tmp_path, limit=2, console=screen)
    text = screen.export_text()
    best, worst = text.split("worst")
    assert best.count("answers 1.0") == 2
    assert worst.count("answers 0.0") == 2
    assert "answers 0.5" not in text
    assert "math: accepted 1" in best
    assert "math: wrong_answer 0" in worst
    assert "a?" in text


def test_show_prints_what_was_said_several_times_once(tmp_path: Path):
    kept = store(tmp_path, per_step=1)
    for step in (1, 2, 3):
        kept.add([credited("a", 0, (0.0, 1.0, 1.0))], step)
    kept.flush()
    screen = Console(width=100, file=io.StringIO(), record=True)
    show(tmp_path, limit=1, console=screen)
    text = screen.export_text()
    assert text.count("answers 1.0") == text.count("answers 0.0") == 1
    assert "6 times, the last at step 3" in text
    assert "3 times, the last at step 3" in text


def shown(tmp_path: Path, **options: Any) -> str:
    screen = Console(width=100, file=io.StringIO(), record=True)
    show(tmp_path, console=screen, **options)
    return screen.export_text()


def test_show_prints_different_questions_and_no_text_twice(tmp_path: Path):
    kept = store(tmp_path, per_step=4)
    for step in (1, 2):
        kept.add([credited(name, step, (1.0, 0.75, 0.25, 0.0)) for name in "abcd"], step)
    same = credited("e", 3, (1.0, 0.0))
    said = dataclasses.replace(same.scored.group.rollouts[0], text="a answers 1.0")
    group = dataclasses.replace(same.scored.group, rollouts=(said, said))
    kept.add([dataclasses.replace(same, scored=dataclasses.replace(same.scored, group=group))], 3)
    kept.flush()
    text = shown(tmp_path, limit=4)
    best, worst = text.split("worst")
    for part, ending in ((best, "1.0"), (worst, "0.0")):
        answers = re.findall(r"\w answers [\d.]+", part)
        assert len(set(answers)) == len(answers) == 4, "four questions, once each"
        assert all(answer.endswith(ending) for answer in answers)
    assert text.count("a answers 1.0") == 1, "it was said of two questions"


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Which(verdict="wrong_answer"), {"a answers 0.0", "b answers 0.0"}),
        (Which(prompt="B?"), {"b answers 0.0", "b answers 1.0"}),
        (Which(steps=(2, 9)), {"b answers 0.0", "b answers 1.0"}),
        (Which(verdict="accepted", prompt="a", steps=(1, 1)), {"a answers 1.0"}),
    ],
    ids=["verdict", "prompt", "step", "all three"],
)
def test_show_looks_at_what_is_asked_for(tmp_path: Path, which: Which, found: set[str]):
    kept = store(tmp_path)
    for step, name in enumerate("ab", 1):
        kept.add([credited(name, step)], step)
    kept.flush()
    assert set(re.findall(r"\w answers [\d.]+", shown(tmp_path, which=which))) == found


def test_show_calls_none_of_equal_rollouts_the_worst(tmp_path: Path):
    kept = store(tmp_path)
    for step, name in enumerate("ab", 1):
        kept.add([credited(name, step)], step)
    kept.flush()
    text = shown(tmp_path, limit=1, which=Which(verdict="accepted"))
    assert "all of reward 1" in text
    assert "worst" not in text


def test_show_says_what_there_is_where_nothing_is_as_asked_for(tmp_path: Path):
    kept = store(tmp_path)
    kept.add([credited("a", 0)], 7)
    kept.flush()
    with pytest.raises(InputError, match="verdicts accepted, wrong_answer and are of steps 7 to 7"):
        show(tmp_path, which=Which(verdict="timeout"))


# W&B


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nobody is logged in."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.usefixtures("nobody")
def test_wandb_is_offline_unless_somebody_is_logged_in(monkeypatch: pytest.MonkeyPatch):
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("offline") == "offline"
    assert wandb_mode("off") == "off"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "off"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode("auto") == "offline"


@pytest.mark.usefixtures("nobody")
def test_a_netrc_entry_of_the_server_is_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.test:8080")
    (tmp_path / "netrc").write_text("machine other.test login user password key\n")
    assert wandb_mode("auto") == "offline"
    (tmp_path / "netrc").write_text("machine wandb.test login user password key\n")
    assert wandb_mode("auto") == "online"


@pytest.mark.usefixtures("nobody")
def test_wandb_forced_online_without_a_login_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(InputError, match="wandb login"):
        build_tracker(config(tmp_path, wandb="online"), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


def test_a_wandb_that_does_not_start_is_reported_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def broken(*arguments: object) -> None:
        raise RuntimeError("no service")

    monkeypatch.setattr(wandb_sink, "WandbSink", broken)
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    tracker.log(line(1, loss__oapl=1))
    tracker.close()
    assert (
        "W&B did not start offline: RuntimeError: no service"
        in (tmp_path / "messages.log").read_text()
    )
    assert steps(tmp_path / "metrics.jsonl") == [1]


class FakeBoard:
    """Stands for a W&B run: raises or hangs when it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.logged: list[int] = []
        self.dir, self.url, self.is_finished = "/runs/w/wandb/run/files", "http://w", False

    def define_metric(self, *arguments: object, **named: object) -> None:
        pass

    def log(self, values: dict[str, Any], step: int) -> None:
        self.gate.wait(30)
        if self.error:
            raise self.error
        self.logged.append(step)

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A W&B that is offline at once, and what is said of it."""
    import wandb

    board, forgotten = FakeBoard(), []
    monkeypatch.setattr(wandb, "init", lambda **_: board)
    monkeypatch.setattr(wandb_sink, "_forget", lambda: forgotten.append(1))
    board.forgotten = forgotten  # type: ignore[attr-defined]
    return board


def said_of_wandb(folder: Path) -> list[str]:
    lines = (folder / "messages.log").read_text().splitlines()
    return [line[STAMP_LENGTH + 1 :] for line in lines if "W&B" in line]


def log_until_said(tracker: Any, board: FakeBoard, folder: Path, count: int) -> None:
    """Steps until so many lines were said: another thread talks to W&B."""
    for step in range(1, 10_000):
        tracker.log(line(step, loss__oapl=1))
        if len(said_of_wandb(folder)) == count:
            return
        time.sleep(0.001)
    raise AssertionError(said_of_wandb(folder))


def test_what_wandb_takes_is_taken_in_order_and_to_the_end(board: Any, tmp_path: Path):
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    for step in (1, 2, 3):
        tracker.log(line(step, loss__oapl=1))
    tracker.close()
    assert (board.logged, board.is_finished, board.forgotten) == ([1, 2, 3], True, [])


def test_a_wandb_that_fails_in_mid_run_is_said_once_and_left_out(board: Any, tmp_path: Path):
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    board.error = ConnectionResetError("Connection lost\nand more")
    log_until_said(tracker, board, tmp_path, 2)
    board.error = None
    for step in (10_001, 10_002):
        tracker.log(line(step, loss__oapl=1))
    tracker.close()
    assert said_of_wandb(tmp_path)[1:] == [
        "W&B took no metrics: ConnectionResetError: Connection lost; going on without it: "
        "metrics.jsonl has everything"
    ]
    assert (board.logged, board.is_finished, board.forgotten) == ([], False, [1])
    assert steps(tmp_path / "metrics.jsonl")[-1] == 10_002


def test_a_wandb_that_takes_nothing_any_more_delays_no_step(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wandb_sink, "MAX_WAITING", 3)
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    board.gate.clear()
    log_until_said(tracker, board, tmp_path, 2)
    tracker.close()
    board.gate.set()
    assert "W&B has taken none of the last 3 calls; going on" in said_of_wandb(tmp_path)[1]
    assert board.forgotten == [1]


def test_a_wandb_that_stays_in_one_call_is_left_out(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wandb_sink, "WANDB_CALL_S", 0.2)
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    board.gate.clear()
    for step in range(1, 200):
        tracker.log(line(step, loss__oapl=1))
        time.sleep(0.01)
    tracker.close()
    board.gate.set()
    assert said_of_wandb(tmp_path)[1:] == [
        "W&B has been at one call for 0.2 s; going on without it: metrics.jsonl has everything"
    ]


def test_leaving_wandb_out_holds_no_step_up_and_the_end_for_a_while_alone(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left = threading.Event()
    monkeypatch.setattr(wandb_sink, "_forget", lambda: left.wait(30))
    monkeypatch.setattr(wandb_sink, "WANDB_FORGET_S", 0.3)
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    board.error = ConnectionResetError("Connection lost")
    began = time.monotonic()
    log_until_said(tracker, board, tmp_path, 2)
    tracker.log(line(10_001, loss__oapl=1))
    assert time.monotonic() - began < 5
    tracker.close()
    left.set()
    assert time.monotonic() - began < 10


def test_a_wandb_that_cannot_start_online_is_forgotten_before_it_starts_offline(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its service holds the run's id, even of a run that did not start."""
    import wandb

    def init(**settings: Any) -> FakeBoard:
        if settings["mode"] == "online":
            raise ConnectionError("nobody there\nwhile retrying")
        assert board.forgotten == [1]
        return board

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    build_tracker(config(tmp_path, wandb="online"), tmp_path, 0).close()
    first, second = said_of_wandb(tmp_path)
    assert first == "W&B did not start online: ConnectionError: nobody there"
    assert second.startswith("W&B is offline: ")


@pytest.mark.integration
@pytest.mark.usefixtures("nobody")
def test_wandb_with_a_dead_server_is_offline_and_its_dead_process_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from wandb.sdk import wandb_setup

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_sink, "WANDB_START_S", 1)
    tracker = build_tracker(config(tmp_path, wandb="auto"), tmp_path, 0)
    first, second = said_of_wandb(tmp_path)
    assert first.startswith("W&B did not start online")
    assert second.startswith("W&B is offline")
    wandb_setup._singleton._connection._proc._process.kill()  # type: ignore[union-attr]
    log_until_said(tracker, FakeBoard(), tmp_path, 3)
    tracker.close()
    assert wandb_setup._singleton is None, "nothing is left to say goodbye to at the end"


def test_a_wandb_that_does_not_finish_is_ended_and_what_is_left_is_told(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wandb_sink, "WANDB_FINISH_S", 0.1)
    tracker = build_tracker(config(tmp_path, wandb="offline"), tmp_path, 0)
    board.gate.clear()
    tracker.log(line(1, loss__oapl=1))
    tracker.close()
    board.gate.set()
    assert said_of_wandb(tmp_path)[1:] == [
        "W&B did not finish within 0.1 s and is ended; upload the rest: "
        "wandb sync /runs/w/wandb/run"
    ]
    assert board.forgotten == [1]


STOPPED_WANDB = """
import os, signal, sys
from pathlib import Path
from oapl.config import RunConfig
from oapl.records import StepMetrics
from oapl.tracking import wandb_sink
from oapl.tracking.tracker import build_tracker
from wandb.sdk import wandb_setup

folder = Path(sys.argv[1])
wandb_sink.WANDB_FINISH_S = 1
config = RunConfig(run={"dir": sys.argv[1]}, tracking={"wandb": "offline", "console": "off"})
tracker = build_tracker(config, folder, 0)
process = wandb_setup._singleton._connection._proc._process
os.kill(process.pid, signal.SIGSTOP)
tracker.log(StepMetrics(step=1, values={"loss/total": 1.0}))
tracker.close()
try:
    assert process.wait(10) == -9
finally:
    process.kill()
"""


@pytest.mark.integration
@pytest.mark.usefixtures("nobody")
def test_a_wandb_whose_process_is_stopped_does_not_keep_the_command_from_its_end(tmp_path: Path):
    """wandb itself waits for its process as the program ends."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WANDB, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "W&B did not finish within 1 s and is ended" in said_of_wandb(tmp_path)[1]


class FailingSink(Sink):
    """Cannot be written to, from the first line on."""

    def message(self, text: str) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


class Heard(Sink):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_closed = False

    def message(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None:
        self.is_closed = True


def test_how_a_run_failed_reaches_whoever_can_be_told():
    tracker, heard = Tracker(), Heard()
    tracker.add(FailingSink())
    tracker.add(heard)
    tracker.fail("failed: no space left")
    tracker.close()
    assert (heard.lines, heard.is_closed) == (["failed: no space left"], True)


def test_a_screen_that_is_gone_is_left_out_and_a_file_that_cannot_be_written_is_not():
    """As when a terminal was closed, or the reader of a pipe ended."""
    tracker, heard = Tracker(), Heard()
    tracker.add_screen(FailingSink())
    tracker.add(heard)
    for text in ("one", "two"):
        tracker.message(text)
    tracker.close()
    assert heard.lines == ["one", "two"]
    tracker = Tracker()
    tracker.add(FailingSink())
    with pytest.raises(OSError, match="No space left"):
        tracker.message("one")


def test_on_a_full_disk_the_status_says_that_the_run_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """There is room for no new file, only in the old one's place."""
    sink = StatusSink(tmp_path, 4)
    sink.phase("train")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(status, "written_aside", full)
    sink.close()
    found = status.read(tmp_path)
    assert found is not None
    assert (found.phase, found.start_step) == ("failed", 4)


@pytest.mark.integration
@pytest.mark.usefixtures("nobody")
def test_wandb_offline_holds_metrics_config_and_rollouts_under_one_id_across_a_resume(
    tmp_path: Path,
):
    import wandb

    setup = config(tmp_path, wandb="auto", wandb_checkpoints=True)
    saved = tmp_path / "step-2"
    saved.mkdir()
    (saved / "weights").write_text("w")
    for start in (0, 2):
        tracker = build_tracker(setup, setup.folder, start)
        kept = RolloutStore(setup, setup.folder, HEADER, tracker.rollouts)
        for step in (start + 1, start + 2):
            kept.add([credited(f"q{step}", start)], step)
            tracker.log(line(step, loss__oapl=step / 10))
        kept.flush()
        # Of a version published ahead of its period: the evaluation ends after a later step.
        tracker.log(StepMetrics(step=start + 1, values={"eval/s/greedy": 1.0}))
        tracker.alert("alarm entropy", f"step {start + 2}: it fell")
        tracker.saved(saved, start + 2)
        tracker.close()
    wandb.teardown()  # the service writes the last records only as it ends
    assert "W&B is offline" in (setup.folder / "messages.log").read_text()
    ids, axes, settings, history, tables = [], {}, {}, [], []
    alerts, artifacts = [], []
    for path in sorted((setup.folder / "wandb").glob("offline-run-*/*.wandb")):
        for record in wandb_files.records(path):
            if record.HasField("run"):
                ids.append(record.run.run_id)
                updates = record.run.config.update
                settings |= {item.key: json.loads(item.value_json) for item in updates}
            if record.HasField("metric"):
                axes[record.metric.glob_name or record.metric.name] = record.metric
            if record.HasField("alert"):
                alerts.append((record.alert.title, record.alert.text, record.alert.level))
            if record.HasField("request") and record.request.HasField("log_artifact"):
                artifacts.append(record.request.log_artifact.artifact)
            if record.HasField("artifact"):
                artifacts.append(record.artifact)
            if record.HasField("history"):
                row = {
                    i.key or ".".join(i.nested_key): json.loads(i.value_json)
                    for i in record.history.item
                }
                history.append(row)
                if "rollouts.path" in row:
                    tables.append(
                        json.loads((path.parent / "files" / row["rollouts.path"]).read_text())
                    )
    assert len(set(ids)) == 1
    assert {name for name, metric in axes.items() if metric.step_metric != STEP} == {STEP}
    assert axes["eval/*"].summary.max
    assert axes["eval/*"].summary.last
    assert alerts == [("alarm entropy", f"step {step}: it fell", "WARN") for step in (2, 4)]
    stored = {(made.type, frozenset(made.aliases)) for made in artifacts}  # in no order
    assert ("checkpoint", frozenset({"step-2", "latest"})) in stored
    assert settings["sync"]["interval"] == setup.sync.interval
    assert settings["tracking"]["wandb"] == "auto"
    names = ("step", "_step", "loss/oapl", "eval/s/greedy")
    assert sorted(tuple(row.get(name) for name in names) for row in history) == [
        (1, 1, 0.1, None),
        (2, 2, 0.2, 1.0),
        (3, 3, 0.3, None),
        (4, 4, 0.4, 1.0),
    ]
    assert [[row[0] for row in table["data"]] for table in tables] == [[1, 1, 2, 2], [3, 3, 4, 4]]
    first = dict(zip(tables[0]["columns"], tables[0]["data"][0], strict=True))
    assert (first["prompt"], first["response"]) == ("<user>q1?", "q1 answers 0.0")
    assert (first["reward"], json.loads(first["verdicts"])["math"]["kind"]) == (0.0, "wrong_answer")


def test_nothing_of_the_rollouts_is_prepared_when_nobody_shows_them(tmp_path: Path):
    tracker = build_tracker(config(tmp_path), tmp_path, 0)
    prepared: list[int] = []
    rows: Any = (prepared.append(number) or {} for number in range(3))  # type: ignore[func-returns-value]
    tracker.rollouts(rows)
    assert prepared == []


def test_the_first_evaluation_is_found_by_a_run_that_did_not_make_it(tmp_path):
    sink = JsonlSink(tmp_path, 0)
    sink.log(StepMetrics(step=0, values={"eval/a/mean@8": 0.25}))
    sink.log(StepMetrics(step=1, values={"loss/total": 1.0}))
    sink.log(StepMetrics(step=1, values={"eval/a/mean@8": 0.5}))
    assert first_evaluation(tmp_path) == {"eval/a/mean@8": 0.25}
    assert first_evaluation(tmp_path / "nothing") == {}

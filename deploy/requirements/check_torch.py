"""Says whether pip would fetch a CUDA build of torch here, before gigabytes are downloaded.

Asks pip for a dry run (metadata only). Exit code 1, with the remedy, when the build needs CUDA.
"""

import json
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 300
"""For pip to read an index and a few kilobytes of metadata."""


def main() -> int:
    pins = str(Path(__file__).with_name("cpu-torch.txt"))
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    try:
        answer = subprocess.run(
            [*pip, "--ignore-installed", "--report", "-", "-r", pins],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        print(f"waited {TIMEOUT_S} s for pip to answer; is its index in reach?", file=sys.stderr)
        return 1
    if answer.returncode != 0:
        print(answer.stderr.strip(), file=sys.stderr)
        return answer.returncode
    metadata = json.loads(answer.stdout)["install"][0]["metadata"]
    needs = [line for line in metadata.get("requires_dist", []) if "extra ==" not in line]
    if not any(word in line for line in needs for word in ("nvidia", "cuda")):
        return 0
    print(
        f"pip would install the CUDA build of torch {metadata['version']}: several GB that a CPU "
        "run does not need.\n"
        "Remedy: install the CPU build into .venv from PyTorch's own CPU index (pytorch.org, "
        "'Get started', Compute Platform: CPU), with the version in\n"
        f"  {pins}\n"
        "and run the same make command again. To go on with the CUDA build: make ... CUDA_TORCH=1",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())

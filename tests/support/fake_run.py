"""A stand-in for `oapl train` that lives by itself, for the harness of `make chaos`.

    python -m tests.support.fake_run FOLDER

It makes a learner step every 20 ms, and a checkpoint every 5; its one child, `worker-0.0`, is
followed by another when it dies. SIGTERM stops it with a checkpoint; a file `broken` in its folder
ends it with words; where `doubles` lies there, a resumed one writes a step twice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

CHECKPOINT = 5
STEP_S = 0.02


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    metrics, mark = folder / "metrics.jsonl", folder / "checkpoint"
    saved = int(mark.read_text()) if mark.exists() else 0
    if saved:
        print(f"resuming from {folder}/checkpoints/step-{saved}", flush=True)
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    kept = saved - 1 if (folder / "doubles").exists() else saved
    metrics.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= saved))
    with (folder / "metrics.after.jsonl").open("a") as aside:
        aside.writelines(f"{line}\n" for line in lines if json.loads(line)["step"] > saved)
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        print("SIGTERM: stopping", flush=True)
        asked.append(number)

    signal.signal(signal.SIGTERM, ask)
    child, number, step = _child(folder, 0), 0, kept
    while not asked:
        time.sleep(STEP_S)
        if (folder / "broken").exists():
            print("failed: it is broken", flush=True)
            child.kill()
            return 1
        if child.poll() is not None:
            print(f"worker 0.{number} died (signal); restarting", flush=True)
            number += 1
            child = _child(folder, number)
        step += 1
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "time/step_s": STEP_S}) + "\n")
        if step % CHECKPOINT == 0:
            mark.write_text(str(step))
    mark.write_text(str(step))
    child.kill()
    return 143


def _child(folder: Path, number: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    (folder / "processes.json").write_text(json.dumps({f"worker-0.{number}": child.pid}))
    return child


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

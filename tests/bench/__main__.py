"""`make bench`: every bench in a process of its own, since one holds one engine."""

import subprocess
import sys

for name in ("learner_step", "engine_throughput"):
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=True)

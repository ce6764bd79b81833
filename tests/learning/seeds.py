"""`make learning`: the learning test over ten seeds, and its control; prints every gain."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.learning.warm import reinforce, warm_start

NUM_SEEDS = 10


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    start, model = warm_start(folder)
    gains = []
    for seed in range(NUM_SEEDS):
        before, after = reinforce(folder, start, model, seed, "tracking.console=off")
        gains.append(after - before)
        print(f"seed {seed}: {before:.3f} to {after:.3f}, {gains[-1]:+.3f}", flush=True)
    before, after = reinforce(
        folder, start, model, 100, "tracking.console=off", "reward.control=shuffle"
    )
    print(f"worst gain {min(gains):+.3f}, mean {sum(gains) / len(gains):+.3f}")
    print(f"control, rewards shuffled: {before:.3f} to {after:.3f}, {after - before:+.3f}")


if __name__ == "__main__":
    main()

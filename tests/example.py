"""`make example`: three short real runs from one warm start, and docs/example/report.html of them.

    python -m tests.example [FOLDER]

Two seeds of `oapl` and one of `grpo` with importance sampling, at a lag of sixteen steps; about ten
minutes on two cores. The same command goes on where it was ended; the runs lie in FOLDER
(build/example).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.commands import quickstart
from deploy.processes.ray_cluster import start_local_ray
from deploy.run import program
from oapl import reports
from oapl.config import RunConfig
from tests.learning import warm
from tests.matrix import making

PAGE = Path(__file__).parents[1] / "docs" / "example" / "report.html"
TITLE = "oapl and grpo at a lag of sixteen steps"
STEPS, LAG, PROBLEMS = 96, 16, 128
OAPL = ("objective.name=oapl", "objective.beta1=5.0", "objective.beta2=0.1")
GRPO = ("objective={name='grpo',importance='token'}",)
RUNS = {"oapl-0": (0, OAPL), "oapl-1": (1, OAPL), "grpo-0": (0, GRPO)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/example"))
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    ray = start_local_ray(num_cpus=4)
    start = making.warm_start(folder)
    made = [trained(start, name) for name in RUNS]
    ray.shutdown()
    study = reports.Study.read(made)
    reports.write(study, reports.draw(study), PAGE, TITLE)
    print(f"{PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB)")


def trained(start: making.WarmStart, name: str) -> Path:
    """Train a run to its end, where that is not done.

    Args:
        start: What all runs begin with.
        name: Of the run.

    Returns:
        Its folder.

    Raises:
        KeyboardInterrupt: A signal ended it before its end.
    """
    config = configured(start, name)
    if not (config.folder / making.DONE).is_file():
        if program.train(config).signal:
            raise KeyboardInterrupt
        (config.folder / making.DONE).write_text("{}\n")
    return config.folder


def configured(start: making.WarmStart, name: str) -> RunConfig:
    """The quickstart's second half, shorter and without a lead.

    Args:
        start: What all runs begin with.
        name: Of the run.
    """
    seed, objective = RUNS[name]
    config = warm.configure(
        start.folder,
        seed,
        f"run.dir={json.dumps(str(start.folder / 'runs'))}",
        f"run.name={name}",
        f"run.max_steps={STEPS}",
        f"sync.interval={LAG}",
        "sync.max_lead=0",
        "eval.every_syncs=1",
        "eval.ks=[8]",
        f"eval.sources.0.sample={PROBLEMS}",
        'tracking.console="plain"',
        *objective,
    )
    return quickstart.reinforcement(config, start.problems, start.model)


if __name__ == "__main__":
    main()

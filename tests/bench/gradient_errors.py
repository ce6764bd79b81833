"""Errors of gradient and parameters after one step, against one float64 process without packing.

    python -m tests.bench.gradient_errors

ZeRO 0 to 3 on one rank and on two, each rank a Ray actor, in fp32, bf16 and fp16; the two ranks
have unequal rollouts, tokens and micro-batches. A model of 0.5M parameters, 10 rollouts. Columns:
relative L2 over all tensors together, and the worst tensor's largest error over its largest number.
Then two iterations of policy, reference and critic, of 1 and of 4 updates: of each network the
worst update's gradient, at the weights that it began with, and the parameters after all of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.ray_cluster import start_local_ray
from oapl.batching import shard
from oapl.config import RunConfig
from tests.support import ranks, walks
from tests.support.exact import (
    Named,
    exact_gradients,
    exact_parameters,
    relative_error,
    worst_error,
)
from tests.support.makers import make_model

BETA2 = 0.1
ITERATIONS = 2


def main() -> None:
    import torch

    folder = Path(tempfile.mkdtemp(prefix="gradient-errors-"))
    model, groups = make_model(folder / "model"), ranks.groups_to_train()
    optimizer = ranks.config_of(model).optimizer
    exact = exact_gradients(model, groups, BETA2)
    moved = exact_parameters(model, exact, optimizer)

    def row(*names: object, gradients: Named, parameters: Named) -> None:
        figures = (
            relative_error(gradients, exact),
            worst_error(gradients, exact),
            relative_error(parameters, moved),
            worst_error(parameters, moved),
        )
        print("| " + " | ".join([*map(str, names), *(f"{x:.1e}" for x in figures)]) + " |")

    for share in shard(groups, step=0, num_ranks=2, **ranks.LIMITS):
        real = [m for m in share.micro_batches if not m.is_dummy]
        rollouts, tokens = sum(m.num_rollouts for m in real), sum(m.num_tokens for m in real)
        print(
            f"of two ranks one has {rollouts} rollouts, {tokens} tokens, {len(real)} micro-batches"
        )
    print("\n| precision | ranks | ZeRO | gradient L2 | worst | parameters L2 | worst |")
    print("|---|---|---|---|---|---|---|")
    plain = exact_gradients(model, groups, BETA2, torch.float32)
    row(
        "fp32",
        "plain torch",
        "-",
        gradients=plain,
        parameters=exact_parameters(model, plain, optimizer),
    )
    ray = start_local_ray(num_cpus=4)
    shapes = [(precision, stage) for precision in ("fp32", "bf16", "fp16") for stage in range(4)]
    for size in (1, 2):
        calls = [
            ("first_step", ranks.config_of(model, zero_stage=s, precision=p, num_ranks=size))
            for p, s in shapes
        ]
        for (precision, stage), answers in zip(shapes, ranks.run(folder, size, calls), strict=True):
            found = answers[0]
            row(
                precision,
                size,
                stage,
                gradients=found["gradients"],
                parameters=found["parameters"],
            )
    valued(folder, model)
    ray.shutdown()


def valued(folder: Path, model: Path) -> None:
    """Print the rows of policy and critic."""
    import torch

    names = ("policy's gradient", "parameters", "critic's gradient", "parameters")
    print(f"\n| updates | ranks | ZeRO | {' | '.join(names)} |")
    print("|---|---|---|---|---|---|---|")

    def row(walk: walks.Walk, config: RunConfig, *names: object) -> None:
        both = walks.errors(walk, model, config)
        figures = [error[what] for error in both for what in ("gradient", "parameters")]
        cells = [config.steps_per_take, *names, *(f"{x:.1e}" for x in figures)]
        print(f"| {' | '.join(map(str, cells))} |")

    for n in (1, 2):
        plain = walks.plain_walk(model, n, n, ITERATIONS, torch.float32)
        row(plain, walks.valued_config(model, parts=n, passes=n), "plain torch", "-")
    for size in (1, 2):
        configs = [
            walks.valued_config(model, parts=n, passes=n, zero_stage=stage, num_ranks=size)
            for n in (1, 2)
            for stage in range(4)
        ]
        calls = [("valued", config, ITERATIONS) for config in configs]
        for config, (walk, *_) in zip(configs, ranks.run(folder, size, calls), strict=True):
            row(walk, config, size, config.learner.zero_stage)


if __name__ == "__main__":
    main()

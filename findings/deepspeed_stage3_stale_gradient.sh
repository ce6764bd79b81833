#!/usr/bin/env bash
# DeepSpeed 0.19.8 (torch 2.13.0): stage 3 repeats the gradient of a layer that lies idle
#
# Two layers under SGD without momentum. Steps 1 and 5 use both, the others only the first (the
# second may be an expert that no token was sent to, or a head of another task).
# Expected: the second layer moves in steps 1 and 5, as in plain torch and at ZeRO stages 0 to 2.
# Happens: at stage 3 it moves in every step, by the gradient of the last step that used it, for the
#   buffer of a parameter that backward does not reach keeps what it held. In bf16 too. Nothing is
#   logged, and the old gradient is part of the norm.
#
# Seen: change of one weight of the second layer in steps 1 to 6
#   torch    -0.1 +0.0 +0.0 +0.0 -0.1 +0.0
#   stage 0  -0.1 +0.0 +0.0 +0.0 -0.1 +0.0
#   stage 1  -0.1 +0.0 +0.0 +0.0 -0.1 +0.0
#   stage 2  -0.1 +0.0 +0.0 +0.0 -0.1 +0.0
#   stage 3  -0.1 -0.1 -0.1 -0.1 -0.1 -0.1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" --no-deps setuptools==78.1.1 annotated-types==0.8.0 einops==0.8.2 hjson==3.1.0 \
    msgpack==1.2.4 ninja==1.13.2 numpy==2.3.5 packaging==26.3 psutil==7.2.2 py-cpuinfo==9.0.0 \
    pydantic==2.14.3 pydantic_core==2.50.4 tqdm==4.70.1 typing-inspection==0.4.5 \
    typing_extensions==4.16.0
"${pip[@]}" --no-deps --no-build-isolation deepspeed==0.19.8
cd "$work"
export TMPDIR=$work XDG_CACHE_HOME=$work DS_ACCELERATOR=cpu
export RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=0
venv/bin/python -W ignore - <<'EOF'
import sys

import torch
import deepspeed


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def forward(self, uses_second):
        x = torch.ones(1, 4)
        return (self.first(x) + self.second(x) if uses_second else self.first(x)).sum()


def changes(stage):
    model = Two()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    if stage is not None:
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)

    def weight():
        with deepspeed.zero.GatheredParameters([model.second.weight]):
            return float(model.second.weight[0, 0])

    for uses_second in (True, False, False, False, True, False):
        before = weight()
        if stage is None:
            model(uses_second).backward()
            optimizer.step()
            optimizer.zero_grad()
        else:
            engine.backward(engine(uses_second))
            engine.step()
        yield round(weight() - before, 3) + 0.0


deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled, 50 s
torch.distributed.init_process_group(
    "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
)
seen = {stage: list(changes(stage)) for stage in (None, 0, 1, 2, 3)}
for stage, steps in seen.items():
    name = "torch" if stage is None else f"stage {stage}"
    print(f"{name:8}", *(f"{step:+.1f}" for step in steps))
torch.distributed.destroy_process_group()
if seen.pop(3) != [-0.1] * 6 or any(s != [-0.1, 0, 0, 0, -0.1, 0] for s in seen.values()):
    sys.exit("changed: not what the head of this script states")
EOF

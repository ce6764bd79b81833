#!/usr/bin/env bash
# DeepSpeed 0.19.8 (torch 2.13.0): in float32 stage 0 applies a NaN gradient, stages 1 to 3 do not
#
# One loss is NaN, so its gradient is.
# Expected: the step is skipped and counted, as DeepSpeed does at ZeRO stages 1 to 3, and in bf16 at
#   stage 0 too.
# Happens: in float32 at stage 0 the optimizer takes the step. All weights are NaN from then on,
#   was_step_applied() is True, skipped_steps stays 0, and there is no norm to look at: None.
#
# Seen:
#   float32  stage 0  weights NaN     applied True   norm None skipped 0
#   float32  stage 1  weights finite  applied False  norm inf  skipped 1
#   float32  stage 2  weights finite  applied False  norm inf  skipped 1
#   float32  stage 3  weights finite  applied False  norm inf  skipped 1
#   bfloat16 stage 0  weights finite  applied False  norm inf  skipped 1
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

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled, 50 s
torch.distributed.init_process_group(
    "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
)
seen = {}
for dtype, stage in [*(("float32", stage) for stage in range(4)), ("bfloat16", 0)]:
    model = torch.nn.Linear(4, 1)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": dtype == "bfloat16"},
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    engine.backward(engine(torch.ones(1, 4, dtype=getattr(torch, dtype))).sum() * float("nan"))
    engine.step()
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        is_finite = all(bool(p.isfinite().all()) for p in model.parameters())
    is_applied, norm = engine.was_step_applied(), engine.get_global_grad_norm()
    seen[dtype, stage] = (is_finite, is_applied, engine.skipped_steps)
    print(
        f"{dtype:8} stage {stage}  weights {'finite' if is_finite else 'NaN':7} "
        f"applied {is_applied!s:6} norm {norm!s:4} skipped {engine.skipped_steps}"
    )
torch.distributed.destroy_process_group()
if seen.pop(("float32", 0)) != (False, True, 0) or set(seen.values()) != {(True, False, 1)}:
    sys.exit("changed: not what the head of this script states")
EOF

#!/usr/bin/env bash
# A run on nodes of a Slurm cluster: Ray on each of them, the program on the first. Checked by
# `bash -n` and shellcheck; not run, for no Slurm was at hand.
#
#   sbatch --nodes=2 deploy/manifests/slurm.sh RECIPE [KEY=VALUE ...]
#
# Run it where recipe and run folder lie on storage that all nodes share, with oapl's environment
# active. Ten minutes before the time is up the run writes a checkpoint and ends with code 143; the
# same command goes on from there.
#SBATCH --job-name=oapl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --open-mode=append
set -euo pipefail

if [ "$#" -eq 0 ]; then
    echo "usage: sbatch slurm.sh RECIPE [KEY=VALUE ...]" >&2
    exit 2
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{ print $1 }')
port=$((20000 + SLURM_JOB_ID % 10000)) # another job on this node has another one
export RAY_ADDRESS="$address:$port"    # the program joins it
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))') # who has it may join
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}

start() { # NODE ray-start-options...: Ray on one node until the job ends
    local node=$1
    shift
    srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$node" \
        env -u RAY_ADDRESS ray start --block --disable-usage-stats \
        --num-cpus="$cpus" --num-gpus="$gpus" "$@" &
}

start "$head" --head --node-ip-address="$address" --port="$port"
for _ in $(seq 60); do
    ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1 && break
    sleep 2
done
ray health-check --address "$RAY_ADDRESS"
for node in "${nodes[@]:1}"; do
    start "$node" --address="$RAY_ADDRESS"
done

python - "${#nodes[@]}" <<'PYTHON'
import sys
import time

import ray

wanted, deadline = int(sys.argv[1]), time.monotonic() + 300
ray.init(log_to_driver=False)
while (found := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{found} of {wanted} nodes joined Ray within 300 s")
    time.sleep(1)
PYTHON

python -m oapl train "$@" &
program=$!
trap 'kill -TERM "$program"' TERM
code=0
wait "$program" || code=$?
while kill -0 "$program" 2>/dev/null; do # the signal ended the wait, not the program
    code=0
    wait "$program" || code=$?
done
exit "$code"

#!/usr/bin/env bash
#SBATCH --job-name=spark
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=48:00:00

# A stage on all nodes of a Slurm job; OUT has to lie on a file system that they share.
#     sbatch --nodes=3 recipes/qwen2.5-math-7b/slurm.sh recipes/qwen2.5-math-7b/4_rl.sh [OVERRIDES]
# Stages 2 and 3, which torchrun starts, run on every node; the others on the first, beside a Ray cluster of all nodes.
# A job that runs out of its time is submitted again as it was: stages 1 and 5 go on from their journals, the trainings
# from their last checkpoint. Two nodes are estimated to take 53 hours for the verifications of stage 1 alone.
set -euo pipefail

PORT=${PORT:-6379}                         # [D] of Ray or of the rendezvous, on the first node

script=${1:?the script of a stage, as in recipes/qwen2.5-math-7b/4_rl.sh}
shift
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export NODES=${#hosts[@]}

# on HOST COMMAND...: one task there.
on() {
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"
}

case $(basename "$script") in
    2_* | 3_*)
        export RENDEZVOUS=${hosts[0]}:$PORT
        srun --ntasks-per-node=1 bash "$script" "$@"
        ;;
    *)
        export RAY_ADDRESS=${hosts[0]}:$PORT
        trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
        on "${hosts[0]}" ray start --head --port="$PORT" --block &
        for host in "${hosts[@]:1}"; do
            on "$host" ray start --address="$RAY_ADDRESS" --block &
        done
        until on "${hosts[0]}" python -c "import ray; ray.init('auto'); assert len(ray.nodes()) == $NODES"; do
            sleep 5
        done
        on "${hosts[0]}" bash "$script" "$@"
        ;;
esac

#!/usr/bin/env bash
# Stage II: the reward model of ARM, by verl's SFT trainer.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

read_arm "$HERE/arms.txt"
attention model
if [[ $KIND == - ]]; then
    echo "ARM=$ARM asks no verifier: there is nothing to train" >&2
    exit 2
fi
args=(
    model.path="$MODEL"
    "${ATTENTION[@]}"
    spark.data="$OUT/stage1/sft/$METHOD"
    data.train_batch_size=32
    data.max_length=4096
    data.filter_overlong=True
    trainer.seed="$SEED"
    trainer.n_gpus_per_node=1
    trainer.default_local_dir="$OUT/prm/$KIND-$METHOD-$SEED"
)
run verl-spark train "$KIND" "${args[@]}" "$@"

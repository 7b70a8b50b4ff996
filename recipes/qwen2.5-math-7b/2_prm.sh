#!/usr/bin/env bash
# Stage II: the reward model of ARM, by verl's SFT trainer. On several nodes every node runs this, with RENDEZVOUS set.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../common.sh"
source "$HERE/settings.sh"

RENDEZVOUS=${RENDEZVOUS:-}                 # [D] HOST:PORT of one of several nodes

read_arm "$HERE/arms.txt"
attention model
if [[ $KIND == - ]]; then
    echo "ARM=$ARM asks no verifier: there is nothing to train" >&2
    exit 2
fi
max_length=8192         # longer rows are left out; prompt and reply have as much room in 4_rl.sh
if [[ $KIND == thinkprm ]]; then
    max_length=12288    # its thinking included
fi
# The paper says nothing of this training but the base model: all values are [D].
args=(
    model.path="$PRM_BASE"
    "${ATTENTION[@]}"
    spark.data="$OUT/stage1/sft/$METHOD"
    data.train_batch_size=64
    data.max_length="$max_length"
    data.max_token_len_per_gpu=16384
    data.filter_overlong=True
    optim.lr=1e-5
    optim.lr_scheduler_type=cosine
    optim.lr_warmup_steps_ratio=0.03
    trainer.total_epochs=2
    trainer.seed="$SEED"
    trainer.nnodes="$NODES"
    trainer.n_gpus_per_node="$GPUS"
    trainer.default_local_dir="$OUT/prm/$KIND-$METHOD-$SEED"
)
run verl-spark train "$KIND" "${args[@]}" ${RENDEZVOUS:+--rendezvous "$RENDEZVOUS"} "$@"
